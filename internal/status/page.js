"use strict";
// Without this the page is as it was loaded. With it, what is live in it is taken from the
// page anew, again and again while somebody can see it.
(() => {
  const every = 2000, late = 10000; // ms
  const button = document.getElementById("pause"), note = document.getElementById("note");
  let timer, asking = false, paused = false;

  const say = (text) => { if (note.textContent !== text) note.textContent = text; };

  // What somebody is copying is left alone.
  const isSelected = (node) => {
    const s = getSelection();
    return s && !s.isCollapsed && s.containsNode(node, true);
  };

  const show = (fresh) => {
    document.title = fresh.title;
    for (const old of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(old.id);
      if (now && !isSelected(old) && old.innerHTML !== now.innerHTML) old.replaceChildren(...now.childNodes);
    }
  };

  const update = async () => {
    clearTimeout(timer);
    if (asking || paused || document.hidden) return;
    asking = true;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(late) });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      const text = await answer.text();
      if (!paused) show(new DOMParser().parseFromString(text, "text/html"));
      say("");
    } catch {
      say("The server does not answer. This is what it said last.");
    }
    asking = false;
    timer = setTimeout(update, every);
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
    update();
  });
  document.addEventListener("visibilitychange", update);
  timer = setTimeout(update, every);
})();

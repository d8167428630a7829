"use strict";
// With this script a visible page takes its sections from the server again, every 2 s, and
// a digest has a button that copies it.
(async () => {
  const button = document.getElementById("pause"), note = document.getElementById("note");
  let paused = false, noted = 0;
  document.documentElement.className = "scripted";
  button.hidden = false;
  button.onclick = () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
  };
  document.addEventListener("click", (event) => {
    if (event.target.className !== "copy") return;
    // navigator.clipboard is missing where a page came by plain HTTP.
    getSelection().selectAllChildren(event.target.previousSibling);
    const copied = document.execCommand("copy");
    if (copied) getSelection().removeAllRanges();
    note.textContent = copied ? "Copied." : "The digest is selected: copy it.";
    noted = Date.now();
  });
  for (;;) {
    await new Promise((wake) => setTimeout(wake, 2000));
    if (paused || document.hidden || !getSelection().isCollapsed) continue; // a reader copies
    try {
      const answer = await fetch("", { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.statusText);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (paused) continue;
      document.title = fresh.title;
      const open = document.getElementById("older")?.open, focus = document.activeElement.id;
      if (open) fresh.getElementById("older")?.setAttribute("open", "");
      for (const old of document.querySelectorAll("section, #summary")) {
        const now = fresh.getElementById(old.id);
        if (now && old.innerHTML !== now.innerHTML) old.replaceWith(now);
      }
      if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
      if (Date.now() - noted > 4000) note.textContent = "";
    } catch {
      note.textContent = "The server does not answer. The page shows its last answer.";
    }
  }
})();

"use strict";
// With this script a visible page takes its sections from the server again, every 2 s.
(async () => {
  const button = document.getElementById("pause"), note = document.getElementById("note");
  let paused = false;
  button.hidden = false;
  button.onclick = () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
  };
  for (;;) {
    await new Promise((wake) => setTimeout(wake, 2000));
    if (paused || document.hidden || !getSelection().isCollapsed) continue; // a reader copies
    try {
      const answer = await fetch("", { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.statusText);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (paused) continue;
      document.title = fresh.title;
      for (const old of document.querySelectorAll("section, #summary")) {
        const now = fresh.getElementById(old.id);
        if (now && old.innerHTML !== now.innerHTML) old.replaceWith(now);
      }
      note.textContent = "";
    } catch {
      note.textContent = "The server does not answer. The page shows its last answer.";
    }
  }
})();

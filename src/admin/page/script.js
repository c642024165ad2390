"use strict";
// Refreshes the page every few seconds, unless nobody looks or it is paused. Without it the page is as good, and still.
(() => {
  const EVERY = 5000;
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  let paused = false;
  let shown = new Date();

  const refresh = async () => {
    // A button that is being pressed stays where it is.
    if (paused || document.hidden || document.querySelector("button:active")) return;
    try {
      const answer = await fetch("/status", { headers: { accept: "text/html" }, cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const details of document.querySelectorAll("details")) {
        const its = next.getElementById(details.id);
        if (its) its.open = details.open;
      }
      const focused = document.activeElement?.id;
      for (const id of ["overview", "main"]) {
        document.getElementById(id).replaceWith(next.getElementById(id));
      }
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
      document.title = next.title;
      shown = new Date();
      live.textContent = "";
    } catch {
      live.textContent = `pillion does not answer: this is from ${shown.toLocaleTimeString()}`;
    }
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    live.textContent = paused ? `Paused at ${shown.toLocaleTimeString()}` : "";
    refresh();
  });
  setInterval(refresh, EVERY);
})();

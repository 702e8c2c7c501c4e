// Fetches the page again and again, and replaces what has changed: who reads, scrolls or tabs there stays there.
const EVERY_MS = 2000, PATIENCE_MS = 5000;

function replace(part, fresh) {
  if (part.getAttribute("role") === "status") { // so that it is read out
    part.className = fresh.className;
    part.textContent = fresh.textContent;
    return;
  }
  const focused = part.contains(document.activeElement) && document.activeElement.id;
  const scrolled = [...part.querySelectorAll(".wide")].map((one) => one.scrollLeft);
  part.replaceWith(fresh);
  fresh.querySelectorAll(".wide").forEach((one, number) => { one.scrollLeft = scrolled[number] ?? 0; });
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh() {
  const lost = document.getElementById("lost");
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) throw new Error(answer.status);
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (now && now.outerHTML !== part.outerHTML) replace(part, now);
    }
    document.title = fresh.title;
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
}

async function keep() {
  if (!document.hidden) await refresh();
  setTimeout(keep, EVERY_MS);
}
setTimeout(keep, EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

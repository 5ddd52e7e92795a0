// Functions that every view needs.

export const $ = (id) => document.getElementById(id);

// say announces a text to screen readers. The whole page uses one live region, so that
// announcements do not overlap.
export function say(text) {
  if ($("live").textContent !== text) $("live").textContent = text;
}

// first is the view that the page begins with: the form, or the reason why there is none.
export const first = () => ({ closed: "closed", token: "token" })[document.body.dataset.signup] || "form";

// view shows one view and moves the focus to its heading, so that a screen reader reads it.
export function view(name) {
  for (const other of ["form", "closed", "token", "job", "done"]) $("view-" + other).hidden = other !== name;
  title(name, $(name + "-title").textContent);
  $(name + "-title").focus();
}

// title sets a view's heading, and the title of the tab, which is visible from other tabs.
export function title(name, text) {
  $(name + "-title").textContent = text;
  document.title = `${text} · Nexus`;
}

export function alertIn(box, ...lines) {
  const texts = lines.filter(Boolean);
  box.replaceChildren(...texts.map((line) => {
    const p = document.createElement("p");
    p.textContent = line;
    return p;
  }));
  box.hidden = texts.length === 0;
}

export function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// pause waits before the next try. It ends early when the network is back.
export function pause(ms) {
  return new Promise((next) => {
    const over = () => {
      clearTimeout(timer);
      removeEventListener("online", over);
      next();
    };
    const timer = setTimeout(over, ms);
    addEventListener("online", over);
  });
}

// ask sends a request and returns {status, ok, body, etag} for every answer. It throws only
// if there was no answer within 30 s.
export async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(30000), ...options });
  let body = null;
  if ((response.headers.get("Content-Type") || "").includes("json")) body = await response.json();
  return { status: response.status, ok: response.ok, body: body || {}, etag: response.headers.get("ETag") };
}

// The few things every view needs of the document.

export const $ = (id) => document.getElementById(id);

// One polite voice for the whole page, so that announcements do not overlap.
export function say(text) {
  if ($("live").textContent !== text) $("live").textContent = text;
}

// The view that the page begins with: the form, or why there is none.
export const first = () => ({ closed: "closed", token: "token" })[document.body.dataset.signup] || "form";

// Show one view and move the focus to its heading: a screen reader follows.
export function view(name) {
  for (const other of ["form", "closed", "token", "job", "done"]) $("view-" + other).hidden = other !== name;
  title(name, $(name + "-title").textContent);
  $(name + "-title").focus();
}

// A view's heading is the title of the tab too, for those who look elsewhere.
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

// A pause before the next try; it ends early when the network comes back.
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

// A request that never throws for an answer: {status, ok, body, etag}. It throws
// only when there was no answer at all, or none in time.
export async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(30000), ...options });
  let body = null;
  if ((response.headers.get("Content-Type") || "").includes("json")) body = await response.json();
  return { status: response.status, ok: response.ok, body: body || {}, etag: response.headers.get("ETag") };
}

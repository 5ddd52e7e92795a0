// The few things every view needs of the document.

export const $ = (id) => document.getElementById(id);

// One polite voice for the whole page, so that announcements do not overlap.
export function say(text) {
  if ($("live").textContent !== text) $("live").textContent = text;
}

// Show one view and move the focus to its heading: a screen reader follows.
export function view(name) {
  for (const other of ["form", "job", "done"]) $("view-" + other).hidden = other !== name;
  if (name !== "form") $(name + "-title").focus();
}

export function alertIn(box, ...lines) {
  box.replaceChildren(...lines.filter(Boolean).map((line) => {
    const p = document.createElement("p");
    p.textContent = line;
    return p;
  }));
  box.hidden = lines.length === 0;
}

export function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// A request that never throws for an answer: {status, body, etag}. It throws
// only when there was no answer at all.
export async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", credentials: "omit", ...options });
  let body = null;
  if ((response.headers.get("Content-Type") || "").includes("json")) body = await response.json();
  return { status: response.status, ok: response.ok, body: body || {}, etag: response.headers.get("ETag") };
}

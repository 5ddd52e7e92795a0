// The form. The address is checked while the person types, each error is shown at its
// field, and a request whose answer was lost is sent again with the same Idempotency-Key.
import { $, alertIn, ask, first, pause, random, say, view } from "./dom.js";

const fields = ["organizationName", "subdomain", "fullName", "email", "password", "country", "currency", "language", "timezone"];
let key = random(); // the Idempotency-Key; the same until a signup is accepted
const unanswered = new Set(); // bodies that may have arrived although there was no answer

export function start(accepted) {
  $("domain").textContent = document.body.dataset.domain;
  $("address").hidden = !document.body.dataset.domain; // without a domain all accounts are on one site
  watchAddress();
  $("signup").addEventListener("input", ({ target }) => {
    if (fields.includes(target.id)) mark(target.id, "");
    if (!document.querySelector("[aria-invalid]")) alertIn($("form-error"));
  });
  $("signup").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(accepted);
  });
  $("submit").disabled = false; // until now the browser itself would have sent the form
}

// kept returns whether the form still has what was typed before its job.
export function kept() {
  if (!$("organizationName").value) return false;
  $("subdomain").dispatchEvent(new Event("input", { bubbles: true })); // checks the address again
  return true;
}

function watchAddress() {
  let timer = 0;
  let turn = 0; // answers may come out of order; only that to the last request counts
  const wish = () => $("subdomain").value.trim().toLowerCase();
  const look = async () => {
    const mine = ++turn;
    const name = wish();
    if (!name) return show("", "");
    try {
      const { ok, body } = await ask("/subdomains/" + encodeURIComponent(name));
      if (mine !== turn || !ok) return;
      if (body.available) show(`${body.site} is free.`, "good");
      else show(body.reason, "bad", body.suggestion);
    } catch { /* submitting the form shows the error */ }
  };
  $("subdomain").addEventListener("input", () => {
    clearTimeout(timer);
    turn++;
    show("", "");
    timer = setTimeout(look, 250);
  });
}

function show(text, kind, suggestion) {
  const state = $("subdomain-state");
  state.className = "state " + kind;
  state.replaceChildren(text);
  if (!suggestion) return;
  const use = document.createElement("button");
  use.type = "button";
  use.className = "linkish";
  use.textContent = `Use ${suggestion}`;
  use.addEventListener("click", () => {
    $("subdomain").value = suggestion;
    mark("subdomain", "");
    show(`${suggestion}.${document.body.dataset.domain} is free.`, "good");
    $("subdomain").focus();
  });
  state.append(text ? " " : "", use);
}

function mark(id, message) {
  $(id + "-error").textContent = message;
  if (message) $(id).setAttribute("aria-invalid", "true");
  else $(id).removeAttribute("aria-invalid");
}

// tell shows a message beside the button, where the person looks.
function tell(kind, ...lines) {
  $("form-error").className = kind;
  alertIn($("form-error"), ...lines);
  $("submit").scrollIntoView({ block: "nearest" }); // message and button fit on a small screen
}

async function submit(accepted) {
  const body = {};
  for (const id of fields) {
    mark(id, "");
    const value = id === "password" ? $(id).value : $(id).value.trim();
    if (value || ["organizationName", "fullName", "email", "password"].includes(id)) body[id] = value;
  }
  alertIn($("form-error"));
  $("submit").disabled = true;
  say("Sending your signup.");
  try {
    let remark = "";
    let answer = await send(JSON.stringify(body));
    for (const earlier of unanswered) {
      if (answer.status !== 422) break; // 422: an earlier body with this key was accepted
      answer = await send(earlier);
      remark = "Your first request had already arrived. This is the site that it asked for.";
    }
    if (!answer.ok) return refuse(answer.body);
    $("password").value = ""; // it is no longer needed here
    $("password").dispatchEvent(new Event("input", { bubbles: true }));
    unanswered.clear();
    key = random();
    accepted(answer.body, remark);
  } catch {
    tell("alert", "We could not be reached. Nothing you typed is lost.",
      "Check your connection and press the button again. You will not get two sites.");
    $("form-error").focus();
  } finally {
    $("submit").disabled = false;
  }
}

// send tries a few times. This is safe: the same body with the same key makes one job.
async function send(text) {
  for (let delay = 1000; ; delay *= 2) {
    try {
      const answer = await ask("/signup", { method: "POST", body: text,
        headers: { "Content-Type": "application/json", "Idempotency-Key": key } });
      if (answer.status >= 500) unanswered.add(text);
      return answer;
    } catch (lost) {
      unanswered.add(text);
      if (delay > 8000) throw lost;
      tell("note", "We cannot be reached just now; trying again …");
      await pause(delay);
    }
  }
}

function refuse(problem) {
  const closed = problem.reason === "signup_closed" ? "closed" : problem.code === "unauthenticated" ? "token" : "";
  if (closed) { // the operator closed signups after this page was loaded
    document.body.dataset.signup = closed;
    return view(first());
  }
  let topmost = null;
  const loose = [];
  const place = ({ field }) => fields.indexOf(field); // the topmost field gets the focus
  for (const { field, message } of (problem.errors || []).toSorted((a, b) => place(a) - place(b))) {
    if (!fields.includes(field)) {
      loose.push(message);
      continue;
    }
    mark(field, message);
    topmost = topmost || $(field);
    if ($(field).closest("details")) $(field).closest("details").open = true;
  }
  if ($("subdomain-error").textContent) show("", "", problem.suggestion); // the error already has the reason
  tell("alert", topmost ? "Please look at the marked fields." : problem.detail || "Something went wrong; please try again.",
    ...loose, problem.retryAfter > 90 ? `You can try again in about ${Math.ceil(problem.retryAfter / 60)} minutes.` : "",
    topmost || !problem.requestId ? "" : `Reference: ${problem.requestId}`);
  (topmost || $("form-error")).focus();
}

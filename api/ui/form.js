// The form: the address is checked as one types, a refusal is shown at each
// field, and a lost answer can be asked for again with the same key.
import { $, alertIn, ask, random, say } from "./dom.js";

const fields = ["organizationName", "subdomain", "fullName", "email", "password", "country", "currency", "language", "timezone"];
let key = random();
let refused = ""; // the body of the last refusal: another body needs another key

export function start(accepted) {
  $("domain").textContent = document.body.dataset.domain;
  guess();
  watchAddress();
  for (const id of fields) $(id).addEventListener("input", () => {
    mark(id, "");
    if (!document.querySelector("[aria-invalid]")) alertIn($("form-error"));
  });
  $("signup").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(accepted);
  });
}

// guess fills in what the browser knows, so that most people can leave it.
function guess() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && zone.includes("/")) $("timezone").value = zone;
  const [language, region] = (navigator.language || "en").split("-");
  $("language").value = language;
  try {
    if (region) $("country").value = new Intl.DisplayNames(["en"], { type: "region" }).of(region.toUpperCase());
  } catch { /* an unknown region: the person may fill it in */ }
}

function watchAddress() {
  let timer = 0;
  let turn = 0; // answers may come out of order; only the last question counts
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
    } catch { /* the submit will say what is wrong */ }
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
  state.append(" ", use);
}

function mark(id, message) {
  $(id + "-error").textContent = message;
  if (message) $(id).setAttribute("aria-invalid", "true");
  else $(id).removeAttribute("aria-invalid");
}

async function submit(accepted) {
  const body = {};
  for (const id of fields) {
    mark(id, "");
    const value = id === "password" ? $(id).value : $(id).value.trim();
    if (value || ["organizationName", "fullName", "email", "password"].includes(id)) body[id] = value;
  }
  const text = JSON.stringify(body);
  if (refused && refused !== text) key = random();
  refused = "";
  alertIn($("form-error"));
  $("submit").disabled = true;
  say("Asking for your site.");
  try {
    const answer = await ask("/signup", { method: "POST", body: text,
      headers: { "Content-Type": "application/json", "Idempotency-Key": key } });
    if (answer.ok) {
      $("password").value = ""; // it is not needed here any more
      key = random();
      return accepted(answer.body);
    }
    refused = text;
    if (answer.status === 422) key = random();
    refuse(answer.body);
  } catch {
    alertIn($("form-error"), "We could not be reached. Nothing you typed is lost.",
      "Check your connection and press the button again: it is safe, you will not get two sites.");
    $("form-error").focus();
  } finally {
    $("submit").disabled = false;
  }
}

function refuse(problem) {
  let first = null;
  const loose = [];
  const place = ({ field }) => fields.indexOf(field); // the focus goes to the topmost
  for (const { field, message } of (problem.errors || []).toSorted((a, b) => place(a) - place(b))) {
    if (!fields.includes(field)) {
      loose.push(message);
      continue;
    }
    mark(field, message);
    first = first || $(field);
    if ($(field).closest("details")) $(field).closest("details").open = true;
  }
  if (problem.suggestion) show("This address is taken.", "bad", problem.suggestion);
  alertIn($("form-error"), first ? "Please look at the marked fields." : problem.detail || "Something went wrong; please try again.",
    ...loose, first ? "" : `Reference: ${problem.requestId || "none"}`);
  (first || $("form-error")).focus();
}

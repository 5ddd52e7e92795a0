// Country, language, time zone and currency, offered from the lists of the bench.
// They are loaded when somebody begins to fill in the form. Until then, and without
// them, the fields take text, nothing is guessed, and the server says what it knows.
import { $, ask } from "./dom.js";
import { follow, groups, guess } from "./region.js";

const fields = ["country", "currency", "language", "timezone"];
let asked = false; // the lists are on their way, or here

export function start() {
  $("signup").addEventListener("focusin", load, { once: true });
  $("region").addEventListener("toggle", load);
  $("region").addEventListener("input", tell);
}

async function load() {
  if (asked) return;
  asked = true;
  try {
    const { ok, body } = await ask("/choices", { cache: "default" });
    asked = ok && offer(body);
  } catch {
    asked = false; // again when the fold-out is opened
  }
}

// offer makes a select of each field that there is a list for; it tells whether
// there is any.
function offer(lists) {
  const guessed = guess(lists, { zone: Intl.DateTimeFormat().resolvedOptions().timeZone, languages: navigator.languages });
  const made = fields.filter((id) => choose(id, groups(lists, id, guessed.country), guessed[id]));
  if (!made.length) return false;
  if ($("country").matches("select")) $("country").addEventListener("change", () => settle(lists));
  $("region-hint").textContent = "Taken from your browser as far as it tells; change what is not right.";
  tell();
  return true;
}

// choose puts a select in a field's place. What the person has typed there stays,
// if the list spells it otherwise.
function choose(id, grouped, guessed) {
  const input = $(id);
  const select = document.createElement("select");
  for (const name of ["id", "name", "autocomplete", "aria-describedby", "aria-invalid"]) {
    if (input.hasAttribute(name)) select.setAttribute(name, input.getAttribute(name));
  }
  fill(select, grouped);
  const typed = input.value.trim();
  select.value = typed || guessed;
  if (select.options.length < 2 || typed && select.value !== typed) return false;
  const focused = document.activeElement === input;
  input.replaceWith(select);
  if (focused) select.focus();
  return true;
}

function fill(select, grouped) {
  select.replaceChildren(new Option("Not chosen", ""));
  for (const [heading, options] of grouped) {
    const group = heading ? document.createElement("optgroup") : select;
    group.append(...options.map(([value, text]) => new Option(text, value)));
    if (!heading) continue;
    group.label = heading;
    select.append(group);
  }
}

// settle follows a change of the country; all of it is in sight.
function settle(lists) {
  const now = follow(lists, $("country").value, $("timezone").value);
  if ($("currency").matches("select")) $("currency").value = now.currency;
  if ($("timezone").matches("select")) {
    fill($("timezone"), groups(lists, "timezone", $("country").value));
    $("timezone").value = now.timezone;
  }
  tell();
}

// tell says in the fold-out's heading what will be sent.
function tell() {
  const chosen = ["country", "language", "timezone", "currency"].map((id) => $(id)).filter(({ value }) => value);
  $("region-chosen").textContent = chosen.map((field) => (field.id === "country" || field.id === "language") && field.selectedOptions
    ? field.selectedOptions[0].text : field.value).join(", ") || "Not chosen: the usual settings";
}

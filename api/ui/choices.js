// The fields country, language, time zone and currency become selects with the lists of
// the bench. The lists are loaded when the person begins to fill in the form. Until then,
// or if they cannot be loaded, the fields are text fields without guesses, and the server
// checks the values.
import { $, ask } from "./dom.js";
import { follow, groups, guess } from "./region.js";

const fields = ["country", "currency", "language", "timezone"];
let asked = false; // the lists are being loaded, or were loaded

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
    asked = false; // opening the fold-out tries again
  }
}

// offer replaces each field for which there is a list by a select. It returns whether there
// is any list.
function offer(lists) {
  const guessed = guess(lists, { zone: Intl.DateTimeFormat().resolvedOptions().timeZone, languages: navigator.languages });
  const made = fields.filter((id) => choose(id, groups(lists, id, guessed.country), guessed[id]));
  if (!made.length) return false;
  if ($("country").matches("select")) $("country").addEventListener("change", () => settle(lists));
  $("region-hint").textContent = "The values are guessed from your browser’s settings. Change them if they are wrong.";
  tell();
  return true;
}

// choose replaces a field by a select and returns whether it did. If the person has typed a
// value that is not in the list, the field stays.
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

// settle sets currency and time zones to those of the chosen country. The person sees the
// change, since the fields are in the same fold-out.
function settle(lists) {
  const now = follow(lists, $("country").value, $("timezone").value);
  if ($("currency").matches("select")) $("currency").value = now.currency;
  if ($("timezone").matches("select")) {
    fill($("timezone"), groups(lists, "timezone", $("country").value));
    $("timezone").value = now.timezone;
  }
  tell();
}

// tell shows in the fold-out's heading the values that will be sent.
function tell() {
  const chosen = ["country", "language", "timezone", "currency"].map((id) => $(id)).filter(({ value }) => value);
  $("region-chosen").textContent = chosen.map((field) => (field.id === "country" || field.id === "language") && field.selectedOptions
    ? field.selectedOptions[0].text : field.value).join(", ") || "Not chosen: the default settings";
}

// The password rules, as the server has them, ticked as they are met.
import { $ } from "./dom.js";

const same = (a, b) => b !== "" && a.toLowerCase() === b.toLowerCase();

const rules = [
  ["8 to 128 characters", (p) => [...p].length >= 8 && [...p].length <= 128],
  ["a small letter", (p) => /\p{Ll}/u.test(p)],
  ["a capital letter", (p) => /\p{Lu}/u.test(p)],
  ["a digit", (p) => /\p{Nd}/u.test(p)],
  ["not your e-mail or company", (p) => {
    const email = $("email").value.trim();
    return p !== "" && !same(p, email) && !same(p, email.split("@")[0]) && !same(p, $("organizationName").value.trim());
  }],
];

export function start() {
  const items = rules.map(([text]) => {
    const li = document.createElement("li");
    li.textContent = text;
    return li;
  });
  $("rules").replaceChildren(...items);
  const tick = () => rules.forEach(([text, met], i) => {
    const ok = met($("password").value);
    items[i].classList.toggle("met", ok);
    items[i].setAttribute("aria-label", text + (ok ? ": met" : ": not yet"));
  });
  for (const id of ["password", "email", "organizationName"]) $(id).addEventListener("input", tick);
  $("reveal").addEventListener("click", () => {
    const shown = $("password").type === "text";
    $("password").type = shown ? "password" : "text";
    $("reveal").textContent = shown ? "Show" : "Hide";
    $("reveal").setAttribute("aria-pressed", String(!shown));
  });
  tick();
}

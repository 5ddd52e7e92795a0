// The password rules, the same as the server's. Each is marked when it is met.
import { $, say } from "./dom.js";

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
    const state = document.createElement("span");
    state.className = "visually-hidden";
    li.append(text, state);
    return li;
  });
  $("rules").replaceChildren(...items);
  let all = false;
  const tick = () => {
    const before = all;
    all = true;
    rules.forEach(([, met], i) => {
      const ok = met($("password").value);
      all = all && ok;
      items[i].classList.toggle("met", ok);
      items[i].lastChild.textContent = ok ? ": met" : ": not yet";
    });
    if (all && !before) say("The password meets all rules.");
  };
  for (const id of ["password", "email", "organizationName"]) $(id).addEventListener("input", tick);
  $("reveal").addEventListener("click", () => {
    const shown = $("password").type === "text";
    $("password").type = shown ? "password" : "text";
    $("reveal").textContent = shown ? "Show" : "Hide";
    $("reveal").setAttribute("aria-pressed", String(!shown));
  });
  tick();
}

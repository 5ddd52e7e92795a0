// The last view: the site's address and the API key. The key is fetched only when the
// person asks for it, since the server returns it only once.
import { $, alertIn, ask, random, say, view } from "./dom.js";

let pair = null;

export function start() {
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const label = button.firstChild;
      try {
        await navigator.clipboard.writeText($(button.dataset.copy).textContent);
        label.textContent = "Copied";
        say("Copied.");
      } catch { // no permission, or not a secure page: select the text instead
        getSelection().selectAllChildren($(button.dataset.copy));
        label.textContent = "Press Ctrl+C";
      }
      setTimeout(() => { label.textContent = "Copy"; }, 3000);
    });
  }
  $("save-env").addEventListener("click", save);
}

export function show(job, claim) {
  view("done");
  say("Your site is ready.");
  $("open").href = job.url;
  $("open").textContent = `Open ${job.site}`;
  pair = null;
  $("pair").hidden = $("save").hidden = true;
  tell("note", claim ? "" : partial);
  $("pickup").hidden = !claim;
  $("show-key").onclick = () => fetchPair(job.id, claim);
}

const partial = "The address of this page is incomplete, so the API key cannot be shown. Open the whole address that your signup led to, " +
  "or sign in with your e-mail address and password and ask the operator for a new key.";

function tell(kind, text) {
  $("key-error").className = kind;
  alertIn($("key-error"), text);
}

// pickup returns the Idempotency-Key of the pick-up. It is the same after a reload, so the
// server gives the same answer for ten minutes.
function pickup(id) {
  const name = "pickup-" + id;
  let key = sessionStorage.getItem(name);
  if (!key) sessionStorage.setItem(name, key = random());
  return key;
}

async function fetchPair(id, claim) {
  $("show-key").disabled = true;
  tell("note", "");
  try {
    const { status, ok, body } = await ask(`/jobs/${id}/credentials`, { method: "POST", body: "{}",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${claim}`, "Idempotency-Key": pickup(id) } });
    if (!ok) {
      $("pickup").hidden = status === 410 || status === 404; // already picked up or expired, or a wrong claim token
      if (status === 410) return tell("note", body.detail); // most likely the person picked it up elsewhere
      if (status === 404) return tell("note", partial);
      return tell("alert", body.detail || "The key could not be fetched; press the button again.");
    }
    pair = body;
    $("api-key").textContent = body.apiKey;
    $("api-secret").textContent = body.apiSecret;
    $("pair").hidden = $("save").hidden = false;
    $("pickup").hidden = true;
    say("The key and the secret are shown.");
    $("save-env").focus();
  } catch {
    tell("alert", "The connection was lost. Press the button again; the key can still be shown.");
  } finally {
    $("show-key").disabled = false;
  }
}

function save() {
  const text = `ERP_NEXT_URL=${pair.url}\nERP_API_KEY=${pair.apiKey}\nERP_API_SECRET=${pair.apiSecret}\nFRAPPE_SITE_NAME=${pair.site}\n`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  link.download = `${pair.site}.env`; // browsers remove the dot of a plain ".env"
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say(`Saved as ${link.download}.`);
}

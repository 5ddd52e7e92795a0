// The end: the site's address, and the key, fetched only when the person is
// ready for it, since it is handed out once.
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
      } catch { // no permission, or not a secure page: select it for the person
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
  $("pickup").hidden = false;
  $("pair").hidden = $("save").hidden = true;
  alertIn($("key-error"));
  $("show-key").onclick = () => fetchPair(job.id, claim);
}

// The same pick-up key for ten minutes: a reload gets the same answer.
function pickup(id) {
  const name = "pickup-" + id;
  let key = sessionStorage.getItem(name);
  if (!key) sessionStorage.setItem(name, key = random());
  return key;
}

async function fetchPair(id, claim) {
  $("show-key").disabled = true;
  alertIn($("key-error"));
  try {
    const { status, ok, body } = await ask(`/jobs/${id}/credentials`, { method: "POST", body: "{}",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${claim}`, "Idempotency-Key": pickup(id) } });
    if (!ok) {
      $("pickup").hidden = status === 410; // gone for good
      return alertIn($("key-error"), body.detail || "The key could not be fetched; press the button again.");
    }
    pair = body;
    $("api-key").textContent = body.apiKey;
    $("api-secret").textContent = body.apiSecret;
    $("pair").hidden = $("save").hidden = false;
    $("pickup").hidden = true;
    say("The key and the secret are shown.");
    $("save-env").focus();
  } catch {
    alertIn($("key-error"), "The connection was lost. Press the button again: the key is not used up.");
  } finally {
    $("show-key").disabled = false;
  }
}

function save() {
  const text = `ERP_NEXT_URL=${pair.url}\nERP_API_KEY=${pair.apiKey}\nERP_API_SECRET=${pair.apiSecret}\nFRAPPE_SITE_NAME=${pair.site}\n`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  link.download = `${pair.site}.env`; // browsers take the dot off a plain ".env"
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say(`Saved as ${link.download}.`);
}

// The way of a job, polled: every change ticks the steps; a lost connection is
// no reason to worry, since the job goes on without us.
import { $, alertIn, ask, say, view } from "./dom.js";

const labels = {
  reserve: "Finding a place", site: "Making the site", apps: "Installing ERPNext", user: "Making you its admin",
  plan: "Setting up your plan", api_key: "Issuing the API key", verify: "Checking that it works", activate: "Opening the site",
};
const marks = { pending: "·", started: "●", done: "✓", failed: "!", undone: "–" };
const words = { pending: "not yet", started: "at work", done: "done", failed: "failed", undone: "removed again" };
const waits = {
  retry: "A step did not work at once; it is tried again", capacity: "Many sites are being made; yours is next in line",
  bench: "The server is not answering; we go on as soon as it does", verification: "It waits for your e-mail address to be confirmed",
  payment: "It waits for your payment", operator: "It waits for our operator",
};
const over = ["succeeded", "failed", "canceled", "rollback_failed"];

let following = 0; // a newer start ends an older loop

export function start(again) {
  $("again").addEventListener("click", again);
  $("cancel").addEventListener("click", () => $("confirm").showModal());
}

// follow watches a job to its end and hands it over if it succeeded.
export async function follow(id, claim, succeeded) {
  const mine = ++following;
  view("job");
  $("job-ref").textContent = `Reference: ${id}. You may close this page; its address brings you back.`;
  $("confirm").onclose = () => $("confirm").returnValue === "yes" && cancel(id, claim);
  let etag = "";
  for (let delay = 1000; mine === following;) {
    try {
      const { status, body, etag: fresh } = await ask(`/jobs/${id}?wait=20s`, { headers: etag ? { "If-None-Match": etag } : { "If-None-Match": '"0"' } });
      if (mine !== following) return;
      if (status === 404) return lost();
      if (status !== 200 && status !== 304) throw new Error(status);
      delay = 1000;
      note("");
      if (status === 200) {
        etag = fresh;
        draw(body);
        if (body.state === "succeeded") return succeeded(body);
        if (over.includes(body.state)) return;
      }
    } catch {
      note("The connection was lost. Your site goes on being made; we look again in a moment.");
      await new Promise((next) => setTimeout(next, delay));
      delay = Math.min(2 * delay, 10000);
    }
  }
}

function note(text) {
  $("job-note").textContent = text;
  $("job-note").hidden = !text;
}

function draw(job) {
  $("job-site").textContent = job.site;
  const steps = job.steps.map((step) => {
    const li = document.createElement("li");
    li.className = step.state;
    const mark = document.createElement("span");
    mark.className = "mark";
    mark.setAttribute("aria-hidden", "true");
    mark.textContent = marks[step.state] || "·";
    const text = document.createElement("span");
    text.textContent = labels[step.name] || step.name;
    const hidden = document.createElement("span");
    hidden.className = "visually-hidden";
    hidden.textContent = `: ${words[step.state] || step.state}`;
    text.append(hidden);
    li.append(mark, text);
    const detail = [step.state === "started" && step.percent ? `${step.percent}%` : "", step.note || ""].filter(Boolean).join(" · ");
    if (detail) {
      const small = document.createElement("small");
      small.textContent = detail;
      li.append(small);
    }
    return li;
  });
  $("steps").replaceChildren(...steps);
  const done = job.steps.filter((step) => step.state === "done").length;
  const back = job.state === "rolling_back";
  const ended = over.includes(job.state);
  $("job-title").textContent = { failed: "Your site could not be made", canceled: "Canceled", rolling_back: "Removing what was made",
    rollback_failed: "We have to look at this ourselves" }[job.state] || "Making your site";
  $("cancel").hidden = ended || back;
  $("again").hidden = !ended || job.state === "succeeded";
  if (job.waitingFor) {
    const at = job.nextAt ? ` (next look at ${new Date(job.nextAt).toLocaleTimeString()})` : "";
    note(`${waits[job.waitingFor] || "It waits"}${at}. ${job.waitingNote || ""}`);
  }
  if (job.error && job.state !== "succeeded") alertIn($("job-error"), job.error.message, job.error.action);
  else alertIn($("job-error"));
  say(ended ? $("job-title").textContent + ". " + (job.error ? job.error.message : "") : back ? "Removing what was made." : `${done} of ${job.steps.length} steps done.`);
  if (ended && job.state !== "succeeded") $("job-title").focus();
}

function lost() {
  $("job-title").textContent = "This job is not known";
  $("steps").replaceChildren();
  $("cancel").hidden = true;
  $("again").hidden = false;
  alertIn($("job-error"), "It may have ended more than 30 days ago, or the address of this page is incomplete.", "You can sign up again.");
}

async function cancel(id, claim) {
  try {
    const { ok, body } = await ask(`/jobs/${id}/cancel`, { method: "POST", headers: { Authorization: `Bearer ${claim}` } });
    if (!ok) note(body.detail || "It could not be canceled.");
    else say("Cancel was asked.");
  } catch {
    note("The connection was lost before the cancel arrived; please press it again.");
  }
}

// The way of a job, polled: every change ticks the steps; a lost connection is
// no reason to worry, since the job goes on without us.
import { $, alertIn, ask, pause, say, title, view } from "./dom.js";

const labels = {
  reserve: "Finding a place", site: "Making the site", apps: "Installing ERPNext", user: "Making you its admin",
  plan: "Setting up your plan", api_key: "Issuing the API key", verify: "Checking that it works", activate: "Opening the site",
};
const marks = { pending: "·", started: "●", done: "✓", failed: "!", undone: "–" };
const words = { pending: "not yet", started: "at work", done: "done", failed: "failed", undone: "removed again" };
const waits = {
  retry: "A step did not work at once; it is tried again", capacity: "Many sites are being made; yours is next in line",
  bench: "The server takes a break; we go on as soon as it is back", verification: "It waits for your e-mail address to be confirmed",
  payment: "It waits for your payment", operator: "It waits for our operator",
};
const over = ["succeeded", "failed", "canceled", "rollback_failed"];

let following = 0; // a newer start ends an older loop

export function start(again) {
  $("again").addEventListener("click", () => {
    following++;
    again();
  });
  $("cancel").addEventListener("click", () => {
    $("confirm").returnValue = ""; // Escape leaves what an earlier use chose
    $("confirm").showModal();
  });
}

// follow watches a job to its end and hands it over if it succeeded.
export async function follow(id, claim, succeeded) {
  const mine = ++following;
  reset(id, claim);
  let job = null;
  let etag = '"0"'; // older than any job: the first answer comes at once
  for (let delay = 1000; mine === following;) {
    try {
      const asked = performance.now();
      const { status, body, etag: fresh } = await ask(`/jobs/${encodeURIComponent(id)}?wait=20s`, { headers: { "If-None-Match": etag } });
      if (mine !== following) return;
      if (status === 404) return lost();
      if (status !== 200 && status !== 304) throw new Error(status);
      delay = 1000;
      const same = status === 304 || job?.updatedAt === body.updatedAt;
      if (status === 200) [job, etag] = [body, fresh || etag];
      draw(job);
      if (job.state === "succeeded") return succeeded(job);
      if (over.includes(job.state) && job.state !== "rollback_failed") return; // that one may be resumed
      if (same && performance.now() - asked < 1000) await pause(1000); // something between us does not let the server wait
    } catch {
      if (mine !== following) return;
      note("We cannot be reached just now. Your site goes on being made; we look again in a moment.");
      await pause(delay);
      delay = Math.min(2 * delay, 10000);
    }
  }
}

function reset(id, claim) {
  $("job-title").textContent = "Making your site";
  view("job");
  $("job-site").textContent = "";
  $("steps").replaceChildren();
  alertIn($("job-error"));
  note("");
  $("job-ref").textContent = `The job’s id is ${id}. You may close this page; its address brings you back.`;
  $("cancel").hidden = !claim; // only its holder may
  $("cancel").disabled = false;
  $("again").hidden = true;
  $("confirm").onclose = () => $("confirm").returnValue === "yes" && cancel(id, claim);
}

function note(text) {
  $("job-note").textContent = text;
  $("job-note").hidden = !text;
  if (text) say(text);
}

// row is one step as a line of the list.
function row(step, undoing) {
  const state = undoing ? "started" : step.state;
  const li = document.createElement("li");
  li.className = state;
  const mark = document.createElement("span");
  mark.className = "mark";
  mark.setAttribute("aria-hidden", "true");
  mark.textContent = marks[state] || "·";
  const text = document.createElement("span");
  text.textContent = labels[step.name] || step.name;
  const hidden = document.createElement("span");
  hidden.className = "visually-hidden";
  hidden.textContent = `: ${undoing ? "being removed" : words[state] || state}`;
  text.append(hidden);
  li.append(mark, text);
  const detail = undoing ? "Being removed" : step.state === "undone" ? ""
    : [step.state === "started" && step.percent ? `${step.percent}%` : "", step.note || ""].filter(Boolean).join(" · ");
  if (detail) {
    const small = document.createElement("small");
    small.textContent = detail;
    li.append(small);
  }
  return li;
}

function draw(job) {
  const back = job.state === "rolling_back";
  const ended = over.includes(job.state);
  const undoing = back ? job.steps.findLast((step) => !["pending", "undone"].includes(step.state)) : null;
  $("job-site").textContent = job.site;
  $("steps").replaceChildren(...job.steps.map((step) => row(step, step === undoing)));
  const heading = { failed: "Your site could not be made", canceled: "Canceled", rolling_back: "Removing what was made",
    rollback_failed: "We have to look at this ourselves" }[job.state] || "Making your site";
  const before = $("job-title").textContent;
  title("job", heading);
  $("cancel").hidden ||= ended || back;
  $("again").hidden = !ended || job.state === "succeeded";
  note(job.waitingFor ? wait(job) : "");
  reason(job, ended);
  if (ended) $("job-ref").textContent = `The job’s id is ${job.id}.`;
  if ((ended || back) && $("confirm").open) $("confirm").close("");
  if (heading !== before) $("job-title").focus(); // a new section, as it were
  const done = job.steps.filter((step) => step.state === "done").length;
  if (ended) say(`${heading}. ${job.error ? job.error.message : ""}`);
  else if (!job.waitingFor) say(back ? "Removing what was made." : `${done} of ${job.steps.length} steps done.`);
}

// wait says what the job waits for; the server's own sentence, if it has one, says
// it best, but for a retry, where that is what went wrong.
function wait(job) {
  const general = job.waitingFor === "retry" || !job.waitingNote ? `${waits[job.waitingFor] || "It waits"}.` : "";
  const next = job.nextAt ? `Next look at ${new Date(job.nextAt).toLocaleTimeString()}.` : "";
  return [general, job.waitingNote, next].filter(Boolean).join(" ");
}

// reason says why the job did not succeed. What it says of what is left holds at
// the end only, and a cancel is nobody's mistake.
function reason(job, ended) {
  const { code, message } = job.error || {};
  const action = job.state !== "rollback_failed" ? job.error?.action // there it is for the operator
    : "Our operator has to finish this; you need not wait. Sign up again under another address, or contact support with the job’s id.";
  const canceled = code === "canceled";
  $("job-error").className = canceled ? "note" : "alert";
  if (ended) alertIn($("job-error"), message, action);
  else alertIn($("job-error"), canceled ? "" : message);
}

function lost() {
  title("job", "This job is not known");
  $("job-ref").textContent = "";
  $("cancel").hidden = true;
  $("again").hidden = false;
  note("");
  alertIn($("job-error"), "It may have ended more than 30 days ago, or the address of this page is incomplete.", "You can sign up again.");
  $("job-title").focus();
}

async function cancel(id, claim) {
  try {
    $("cancel").disabled = true;
    const { ok, body } = await ask(`/jobs/${id}/cancel`, { method: "POST", headers: { Authorization: `Bearer ${claim}` } });
    $("cancel").disabled = ok;
    if (!ok) note(body.detail || "It could not be canceled.");
    else say("Cancel was asked.");
  } catch {
    $("cancel").disabled = false;
    note("We could not be reached; please press Cancel again.");
  }
}

// What the page shows of a job. This file does not use the document, so it is tested
// without a browser.

const labels = {
  reserve: "Finding a place", site: "Making the site", apps: "Installing ERPNext", company: "Naming your company", user: "Making you its admin",
  plan: "Setting up your plan", api_key: "Issuing the API key", verify: "Checking that it works", activate: "Opening the site",
};
const words = { pending: "not yet", started: "in progress", done: "done", failed: "failed", undone: "removed again" };
const waits = {
  retry: "A step failed and is tried again", capacity: "Many sites are being made; yours waits for its turn",
  bench: "The server makes no new sites at present; yours is made as soon as it does again", verification: "Your e-mail address must be confirmed first",
  payment: "Your payment must arrive first", operator: "Our operator must do something first",
};
const headings = {
  rolling_back: "Removing what was made", failed: "Your site could not be made", canceled: "Canceled",
  rollback_failed: "Our operator has to finish this",
};
const ends = ["succeeded", "failed", "canceled", "rollback_failed"];
const hopeless = ["invalid", "not_found", "conflict", "forbidden"]; // the same request would fail again

// progress returns what the page shows of a job. ended: the job does not continue by itself.
// over: an operator cannot resume it either.
export function progress(job) {
  const ended = ends.includes(job.state);
  const back = job.state === "rolling_back";
  const stopping = Boolean(job.cancelAsked) && !ended && !back;
  const heading = stopping ? "Stopping" : headings[job.state] || "Making your site";
  return {
    ended, over: ended && job.state !== "rollback_failed", heading,
    rows: rows(job, ended, back),
    note: [stopping ? "It stops as soon as the current step allows it. Then everything made so far is removed, and the address is free again." : "",
      back ? "Everything made so far is removed; then the address is free again." : "",
      job.waitingFor && !stopping ? wait(job) : ""].filter(Boolean).join(" "),
    reason: reason(job, ended),
    cancelable: !ended && !back && !stopping,
    again: ended && job.state !== "succeeded" ? urge(job) : "",
    said: said(job, heading, ended),
  };
}

// rows returns a line for each step: state (for its mark), label, word (its state for screen
// readers) and detail.
function rows(job, ended, back) {
  const undoing = back ? job.steps.findLast((step) => !["pending", "undone"].includes(step.state)) : null;
  const { code, step: broken } = job.error || {};
  return job.steps.map((step) => {
    const label = labels[step.name] || step.name;
    const failed = step.name === broken && code !== "canceled"; // shown as failed even if it is undone by now
    const state = failed ? "failed" : step === undoing ? "started" : step.state;
    let detail = step.state === "undone" || failed ? "" : step.note || "";
    if (step.state === "started" && step.percent) detail = [`${step.percent}%`, detail].filter(Boolean).join(" · ");
    if (step === undoing) detail = "Being removed";
    if (failed && code === "undo_failed") detail = "Could not be removed";
    let word = words[state] || state;
    if (step === undoing && !failed) word = "being removed";
    if (state === "pending" && (ended || back)) word = "not reached";
    return { state, label, word, detail };
  });
}

// wait returns what the job waits for. The server's sentence replaces the general one,
// except for a retry, where the server's sentence is the error.
function wait(job) {
  const general = job.waitingFor === "retry" || !job.waitingNote ? `${waits[job.waitingFor] || "Your site waits"}.` : "";
  const next = job.nextAt ? `Next try at ${new Date(job.nextAt).toLocaleTimeString()}.` : "";
  return [general, job.waitingNote, next].filter(Boolean).join(" ");
}

// reason returns why the job did not succeed and what to do. What to do is shown only at the
// end, since the rollback may change it. A cancel is shown as a note, not as an error.
function reason(job, ended) {
  if (!job.error) return { kind: "alert", lines: [] };
  const { code, message, action } = job.error;
  if (code === "canceled") return { kind: "note", lines: ended ? [message, action] : [] };
  const todo = job.state !== "rollback_failed" ? action // of a parked job the action is for the operator
    : "You need not wait. Sign up again under another address, or contact support with the job’s id.";
  return { kind: "alert", lines: ended ? [message, todo] : [message] };
}

// urge returns the class of the button that leads back to the form: quiet if another try of
// the same signup would fail again.
function urge(job) {
  return job.state === "rollback_failed" || hopeless.includes(job.error?.code) ? "quiet" : "primary";
}

function said(job, heading, ended) {
  if (ended) return [`${heading}.`, job.error?.message].filter(Boolean).join(" ");
  if (job.waitingFor) return ""; // the note is announced instead
  const done = job.steps.filter((step) => step.state === "done").length;
  return heading === "Making your site" ? `${done} of ${job.steps.length} steps done.` : `${heading}.`;
}

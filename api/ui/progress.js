// What is shown of a job. No part of the document is touched here, so that it can
// be tested without one.

const labels = {
  reserve: "Finding a place", site: "Making the site", apps: "Installing ERPNext", user: "Making you its admin",
  plan: "Setting up your plan", api_key: "Issuing the API key", verify: "Checking that it works", activate: "Opening the site",
};
const words = { pending: "not yet", started: "at work", done: "done", failed: "failed", undone: "removed again" };
const waits = {
  retry: "A step did not work at once; it is tried again", capacity: "Many sites are being made; yours is next in line",
  bench: "The server takes a break; we go on as soon as it is back", verification: "It waits for your e-mail address to be confirmed",
  payment: "It waits for your payment", operator: "It waits for our operator",
};
const headings = {
  rolling_back: "Removing what was made", failed: "Your site could not be made", canceled: "Canceled",
  rollback_failed: "We have to look at this ourselves",
};
const ends = ["succeeded", "failed", "canceled", "rollback_failed"];
const hopeless = ["invalid", "not_found", "conflict", "forbidden"]; // another try of the same fails the same

// progress is a job as the page shows it. ended: nothing happens unless an operator
// does something; over: nor then.
export function progress(job) {
  const ended = ends.includes(job.state);
  const back = job.state === "rolling_back";
  const stopping = Boolean(job.cancelAsked) && !ended && !back;
  const heading = stopping ? "Stopping" : headings[job.state] || "Making your site";
  return {
    ended, over: ended && job.state !== "rollback_failed", heading,
    rows: rows(job, ended, back),
    note: [stopping ? "It stops as soon as the step at work lets it. Then everything made so far is removed, and the address is free again." : "",
      back ? "Everything made so far is removed; then the address is free again." : "",
      job.waitingFor && !stopping ? wait(job) : ""].filter(Boolean).join(" "),
    reason: reason(job, ended),
    cancelable: !ended && !back && !stopping,
    again: ended && job.state !== "succeeded" ? urge(job) : "",
    said: said(job, heading, ended),
  };
}

// rows are the steps as lines: state (of its mark), label, what a screen reader
// hears of its state, and what else there is to say.
function rows(job, ended, back) {
  const undoing = back ? job.steps.findLast((step) => !["pending", "undone"].includes(step.state)) : null;
  const { code, step: broken } = job.error || {};
  return job.steps.map((step) => {
    const label = labels[step.name] || step.name;
    const failed = step.name === broken && code !== "canceled"; // though it is undone by now
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

// wait says what the job waits for; the server's own sentence, if it has one, says
// it best, but for a retry, where that is what went wrong.
function wait(job) {
  const general = job.waitingFor === "retry" || !job.waitingNote ? `${waits[job.waitingFor] || "It waits"}.` : "";
  const next = job.nextAt ? `Next look at ${new Date(job.nextAt).toLocaleTimeString()}.` : "";
  return [general, job.waitingNote, next].filter(Boolean).join(" ");
}

// reason says why the job did not succeed, and what to do. What it says of what is
// left holds at the end only, and a cancel is nobody's mistake.
function reason(job, ended) {
  if (!job.error) return { kind: "alert", lines: [] };
  const { code, message, action } = job.error;
  if (code === "canceled") return { kind: "note", lines: ended ? [message, action] : [] };
  const todo = job.state !== "rollback_failed" ? action // there it is for the operator
    : "Our operator has to finish this; you need not wait. Sign up again under another address, or contact support with the job’s id.";
  return { kind: "alert", lines: ended ? [message, todo] : [message] };
}

// urge is how much the way back to the form is urged: not at all where it says that
// another try is in vain.
function urge(job) {
  return job.state === "rollback_failed" || hopeless.includes(job.error?.code) ? "quiet" : "primary";
}

function said(job, heading, ended) {
  if (ended) return [`${heading}.`, job.error?.message].filter(Boolean).join(" ");
  if (job.waitingFor) return ""; // the note is said
  const done = job.steps.filter((step) => step.state === "done").length;
  return heading === "Making your site" ? `${done} of ${job.steps.length} steps done.` : `${heading}.`;
}

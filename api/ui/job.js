// The progress of a job, by long polling. If the connection is lost, the page tries again;
// the job continues meanwhile.
import { $, alertIn, ask, pause, say, title, view } from "./dom.js";
import { progress } from "./progress.js";

const marks = { pending: "·", started: "●", done: "✓", failed: "!", undone: "–" };

let following = 0; // counts the jobs that were followed; a new one ends the loop of the one before
let drawn = 0; // updatedAt of the job as it is shown, in ms

export function start(again) {
  $("again").addEventListener("click", () => {
    following++;
    again();
  });
  $("cancel").addEventListener("click", () => {
    $("confirm").returnValue = ""; // Escape does not reset the value of an earlier use
    $("confirm").showModal();
  });
}

// follow shows a job until it ends, and calls succeeded with a job that has succeeded.
export async function follow(id, claim, heading, succeeded) {
  const mine = ++following;
  reset(id, claim, heading);
  let job = null;
  let etag = '"0"'; // no job has this ETag, so the first answer comes at once
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
      if (job.state === "succeeded") return succeeded(job);
      if (draw(job, claim).over) return;
      if (same && performance.now() - asked < 1000) await pause(1000); // a proxy may answer at once instead of waiting
    } catch {
      if (mine !== following) return;
      note(`The server cannot be reached just now.${job ? " The work continues without this page." : ""} This page tries again in a moment.`);
      await pause(delay);
      delay = Math.min(2 * delay, 10000);
    }
  }
}

function reset(id, claim, heading) {
  drawn = 0;
  $("job-title").textContent = heading;
  view("job");
  $("job-site").textContent = "";
  $("steps").replaceChildren();
  alertIn($("job-error"));
  note("");
  $("job-ref").textContent = `The job’s id is ${id}. You may close this page. To come back, open its address again.`;
  $("cancel").hidden = $("again").hidden = true;
  $("confirm").onclose = () => $("confirm").returnValue === "yes" && cancel(id, claim);
}

function note(text) {
  $("job-note").textContent = text;
  $("job-note").hidden = !text;
  if (text) say(text);
}

// row returns the list item of a step.
function row({ state, label, word, detail }) {
  const part = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.textContent = text;
    return element;
  };
  const li = part("li", state, "");
  const mark = part("span", "mark", marks[state] || "·");
  mark.setAttribute("aria-hidden", "true");
  const text = part("span", "", label);
  text.append(part("span", "visually-hidden", `: ${word}`));
  li.append(mark, text);
  if (detail) li.append(part("small", "", detail));
  return li;
}

function draw(job, claim) {
  const now = progress(job);
  if (Date.parse(job.updatedAt) < drawn) return now; // the answer to a cancel may come after a newer answer
  drawn = Date.parse(job.updatedAt);
  const before = $("job-title").textContent;
  title("job", now.heading);
  $("job-site").textContent = job.site;
  $("steps").replaceChildren(...now.rows.map(row));
  note(now.note);
  $("job-error").className = now.reason.kind;
  alertIn($("job-error"), ...now.reason.lines);
  if (now.ended) $("job-ref").textContent = `The job’s id is ${job.id}.`;
  $("cancel").hidden = !claim || !now.cancelable; // only the holder of the claim token may cancel
  $("cancel").disabled = false;
  offerForm(now.again);
  if (!now.cancelable && $("confirm").open) $("confirm").close("");
  if (now.heading !== before) $("job-title").focus(); // so that a screen reader reads the new heading
  if (now.said) say(now.said);
  return now;
}

// offerForm shows the button that leads back to the form, if signups are open.
function offerForm(urge) {
  $("again").hidden = !urge || document.body.dataset.signup !== "open";
  $("again").className = urge;
}

function lost() {
  title("job", "This job is not known");
  $("job-ref").textContent = "";
  $("cancel").hidden = true;
  offerForm("primary");
  note("");
  $("job-error").className = "alert";
  alertIn($("job-error"), "It may have been deleted, some time after its end, or the address of this page is incomplete.");
  $("job-title").focus();
}

async function cancel(id, claim) {
  const mine = following;
  $("cancel").disabled = true;
  try {
    const { ok, body } = await ask(`/jobs/${id}/cancel`, { method: "POST", headers: { Authorization: `Bearer ${claim}` } });
    if (mine !== following) return;
    if (ok) return draw(body, claim);
    note(body.detail || "It could not be canceled; please press Cancel again.");
  } catch {
    note("We could not be reached; please press Cancel again.");
  }
  $("cancel").disabled = false;
}

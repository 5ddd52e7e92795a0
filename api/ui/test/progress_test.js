import assert from "node:assert/strict";
import test from "node:test";
import { progress } from "../progress.js";

const names = ["reserve", "site", "apps", "company", "user", "plan", "api_key", "verify", "activate"];

// job returns a job whose steps have these states, one letter for each.
function job(state, letters, more = {}) {
  const states = { p: "pending", s: "started", d: "done", f: "failed", u: "undone" };
  return { id: "0", site: "acme.example.com", state, steps: names.map((name, i) => ({ name, state: states[letters[i]] })), ...more };
}

// marks returns the states of the steps as they are shown, one letter for each.
const marks = (shown) => shown.rows.map(({ state, word }) => state === "undone" ? "u" : word === "not reached" ? "-" : state[0]).join("");

const refused = { code: "not_found", step: "apps", message: "The app is missing.", action: "Trying the same again will not help." };
const away = { code: "unavailable", step: "site", message: "The bench is away.", action: "Please sign up again." };
const canceled = { code: "canceled", step: "apps", message: "The job was canceled.", action: "You can sign up again." };
const stuck = { code: "undo_failed", step: "site", message: "The site cannot be dropped.", action: "An operator has to look at the bench." };

test("each state has its heading, marks, note and buttons", () => {
  const rows = [
    ["queued", job("queued", "ppppppppp"), "Making your site", "ppppppppp", { cancelable: true }],
    ["running", job("running", "ddspppppp"), "Making your site", "ddspppppp", { cancelable: true }],
    ["waiting", job("waiting", "ddfpppppp", { waitingFor: "retry" }), "Making your site", "ddfpppppp", { cancelable: true, note: /tried again/ }],
    ["stopping", job("running", "ddspppppp", { cancelAsked: true }), "Stopping", "ddspppppp", { note: /removed.*address is free/ }],
    ["stopping while it waits", job("waiting", "ddfpppppp", { cancelAsked: true, waitingFor: "bench" }), "Stopping", "ddfpppppp", { note: /^It stops.*free again\.$/ }],
    ["rolling back after a cancel", job("rolling_back", "ddupppppp", { error: canceled, cancelAsked: true }), "Removing what was made", "dsu------", { note: /removed/ }],
    ["rolling back after a failure", job("rolling_back", "ddfpppppp", { error: refused }), "Removing what was made", "ddf------", { note: /removed/, alert: 1 }],
    ["failed, another try is useless", job("failed", "uuupppppp", { error: refused }), "Your site could not be made", "uuf------", { ended: true, over: true, again: "quiet", alert: 2 }],
    ["failed, another try may help", job("failed", "uuppppppp", { error: away }), "Your site could not be made", "uf-------", { ended: true, over: true, again: "primary", alert: 2 }],
    ["failed, without an error", job("failed", "uuppppppp"), "Your site could not be made", "uu-------", { ended: true, over: true, again: "primary" }],
    ["canceled", job("canceled", "uuupppppp", { error: canceled }), "Canceled", "uuu------", { ended: true, over: true, again: "primary", remark: 2 }],
    ["parked", job("rollback_failed", "ddupppppp", { error: stuck }), "Our operator has to finish this", "dfu------", { ended: true, again: "quiet", alert: 2 }],
    ["succeeded", job("succeeded", "ddddddddd"), "Making your site", "ddddddddd", { ended: true, over: true }],
  ];
  for (const [name, given, heading, states, want] of rows) {
    const got = progress(given);
    assert.equal(got.heading, heading, name);
    assert.equal(marks(got), states, name);
    const { ended = false, over = false, cancelable = false, again = "", alert = 0, remark = 0 } = want;
    assert.deepEqual({ ended: got.ended, over: got.over, cancelable: got.cancelable, again: got.again }, { ended, over, cancelable, again }, name);
    assert.match(got.note, want.note || /^$/, name);
    assert.equal(got.reason.lines.length, alert + remark, name);
    assert.equal(got.reason.lines.length && got.reason.kind, alert ? "alert" : remark ? "note" : 0, name);
  }
});

test("a failed step has a word for screen readers", () => {
  const row = progress(job("failed", "uuupppppp", { error: refused })).rows[2];
  assert.deepEqual(row, { state: "failed", label: "Installing ERPNext", word: "failed", detail: "" });
  assert.equal(progress(job("rolling_back", "ddfpppppp", { error: refused })).rows[2].detail, "Being removed");
  assert.equal(progress(job("rollback_failed", "ddupppppp", { error: stuck })).rows[1].detail, "Could not be removed");
  assert.deepEqual(progress(job("failed", "uuupppppp", { error: refused })).reason.lines, [refused.message, refused.action]);
  assert.match(progress(job("rollback_failed", "ddupppppp", { error: stuck })).reason.lines[1], /You need not wait/, "the action is for the operator, not for the person");
});

test("what screen readers announce", () => {
  const rows = [
    [job("running", "ddspppppp"), "2 of 9 steps done."],
    [job("running", "ddspppppp", { cancelAsked: true }), "Stopping."],
    [job("rolling_back", "ddupppppp", { error: canceled }), "Removing what was made."],
    [job("waiting", "ddfpppppp", { waitingFor: "capacity" }), ""],
    [job("failed", "uuupppppp", { error: refused }), "Your site could not be made. The app is missing."],
    [job("failed", "uuupppppp"), "Your site could not be made."],
  ];
  for (const [given, want] of rows) assert.equal(progress(given).said, want);
});

test("a wait shows its reason, in the server's sentence if there is one", () => {
  const note = (more) => progress(job("waiting", "ddfpppppp", more)).note;
  assert.equal(note({ waitingFor: "capacity", waitingNote: "Three are before you." }), "Three are before you.");
  assert.equal(note({ waitingFor: "retry", waitingNote: "The disk is full." }), "A step failed and is tried again. The disk is full.");
  assert.equal(note({ waitingFor: "new" }), "Your site waits.");
  assert.match(note({ waitingFor: "bench", nextAt: "2026-01-01T10:00:00Z" }), /Next try at .*\.$/);
});

test("a step shows its percentage and its note", () => {
  const given = job("running", "dsppppppp");
  Object.assign(given.steps[1], { percent: 40, note: "Tables" });
  assert.equal(progress(given).rows[1].detail, "40% · Tables");
  Object.assign(given.steps[1], { state: "undone" });
  assert.equal(progress(given).rows[1].detail, "");
});

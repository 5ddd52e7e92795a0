// The page's address has the job's id and its claim token after the #, so a reload or a
// bookmark shows the job again. A browser never sends this part to a server.
import * as choices from "./choices.js";
import * as credentials from "./credentials.js";
import { $, alertIn, first, title, view } from "./dom.js";
import * as form from "./form.js";
import * as job from "./job.js";
import * as rules from "./rules.js";

function follow(id, claim, heading) {
  job.follow(id, claim, heading, (done) => credentials.show(done, claim));
}

function again() {
  history.replaceState(null, "", location.pathname);
  view(first());
  alertIn($("remark"), form.kept() ? "What you typed is still here, except for the password." : "");
}

// Shows the job that the address names: when the page is loaded, and when the part after
// the # changes later.
function open() {
  const here = new URLSearchParams(location.hash.slice(1));
  alertIn($("remark"));
  if (here.has("job")) follow(here.get("job"), here.get("claim") || "", "Your site");
}

rules.start();
choices.start();
job.start(again);
credentials.start();
form.start((accepted, remark) => {
  history.replaceState(null, "", `#job=${accepted.jobId}&claim=${accepted.claimToken}`);
  alertIn($("remark"), remark);
  follow(accepted.jobId, accepted.claimToken, "Making your site");
});
addEventListener("hashchange", open);
title(first(), $(first() + "-title").textContent);
open();

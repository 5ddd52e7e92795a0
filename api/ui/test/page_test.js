// Tests the page of a "nexus dev" in a real browser, on a small screen.
import assert from "node:assert/strict";
import test from "node:test";
import { Browser, serve } from "./browser.js";

const domain = "sites.of-a-long-name.example-company.com";
const shown = (view) => `!document.getElementById("view-${view}").hidden`;
const values = `["country", "currency", "language", "timezone"].map((id) => document.getElementById(id)).map((e) => e.tagName + " " + e.value).join()`;
const inSight = (id) => `(({ top, bottom, height }) => height > 0 && top >= 0 && bottom <= innerHeight)(document.getElementById("${id}").getBoundingClientRect())`;

test("the signup page", async (t) => {
  const browser = await Browser.start(t);
  const open = await serve(t, { NEXUS_DOMAIN: domain });
  const pages = [];
  const visit = async (url, options) => {
    pages.push(await browser.open(url, options));
    return pages.at(-1);
  };
  // signup fills in the form and sends it.
  const signup = async (values, options) => {
    const page = await visit(open, options);
    await page.fill(values);
    await page.click("#submit");
    return page;
  };

  await t.test("the region is chosen from the lists", async () => {
    const page = await visit(open);
    await page.fill({ organizationName: "Region" });
    await page.until(`document.getElementById("country").matches("select")`);
    assert.equal(await page.eval(values), "SELECT DE,SELECT EUR,SELECT de,SELECT Europe/Berlin");
    assert.equal(await page.text("region-chosen"), "Germany, Deutsch, Europe/Berlin, EUR");
    await page.eval(`(({ country }) => { country.value = "JP"; country.dispatchEvent(new Event("change", { bubbles: true })); })(signup)`);
    assert.equal(await page.text("region-chosen"), "Japan, Deutsch, Asia/Tokyo, JPY");
    await page.click("#submit");
    await page.until(shown("job"));
    const { country, currency, language, timezone } = page.sent[0];
    assert.deepEqual([country, currency, language, timezone], ["JP", "JPY", "de", "Asia/Tokyo"]);
  });

  await t.test("a value that is in no list is not sent", async () => {
    for (const [name, options] of [["a zone the bench does not know", { zone: "America/Coyhaique" }],
      ["no lists", { rules: { "/choices": 503 } }], ["no answer", { rules: { "/choices": 0 } }]]) {
      const page = await visit(open, options);
      await page.fill({ organizationName: name });
      if (options.zone) await page.until(`document.getElementById("country").matches("select")`);
      await page.click("#submit");
      await page.until(shown("job"));
      assert.equal(page.sent[0].timezone, undefined, name);
      assert.equal(page.sent[0].country, options.zone && "DE", name);
    }
  });

  await t.test("a failed step is marked, and the form keeps its values", async () => {
    const page = await signup({ organizationName: "Broken", subdomain: "broken", email: "fail-apps@example.com" });
    await page.until(`document.title.startsWith("Your site could not be made")`);
    assert.match(await page.eval(`document.querySelector("#steps .failed").innerText`), /Installing ERPNext\s*: failed/);
    assert.match(await page.text("job-error"), /will not help/);
    assert.equal(await page.eval(`again.innerText + "," + again.className`), "Back to the form,quiet");
    await page.click("#again");
    assert.equal(await page.eval(`[organizationName, subdomain, email, password].map((field) => field.value).join()`), "Broken,broken,fail-apps@example.com,");
    assert.match(await page.text("remark"), /except for the password/);
    assert.equal(await page.eval(`document.querySelectorAll("#rules .met").length`), 0);
    await page.until(`document.getElementById("subdomain-state").innerText === "broken.${domain} is free."`);
  });

  await t.test("the page shows that a cancel was requested", async () => {
    const page = await signup({ organizationName: "Stopped", email: "slow-site@example.com" });
    await page.until(`document.querySelector("#steps .done")`);
    await page.click("#cancel");
    await page.click("#confirm [value=yes]");
    await page.until(`document.title.startsWith("Canceled")`);
    assert.equal(await page.eval(`again.innerText + "," + again.className`), "Back to the form,primary");

    const job = { id: "abc", site: `acme.${domain}`, state: "running", updatedAt: "2026-01-01T00:00:02Z", steps: [{ name: "site", state: "started" }] };
    const stopping = await visit(`${open}#job=abc&claim=x`, { rules: { "/jobs/abc": { ...job, cancelAsked: true } } });
    await stopping.until(`document.title.startsWith("Stopping")`);
    assert.match(await stopping.text("job-note"), /^It stops .* is removed, and the address is free again\.$/);
    assert.equal(await stopping.text("cancel"), "");

    const late = await visit(`${open}#job=abc&claim=x`, { rules: { "/jobs/abc": job, "/jobs/abc/cancel": { ...job, cancelAsked: true, updatedAt: "2026-01-01T00:00:01.5Z" } } });
    await late.until(`!document.getElementById("cancel").hidden`);
    await late.eval(`window.titles = [document.title]; new MutationObserver(() => titles.push(document.title)).observe(document.head, { subtree: true, childList: true })`);
    await late.click("#cancel");
    await late.click("#confirm [value=yes]");
    await late.until(`cancel.disabled`);
    await late.until(`!cancel.disabled`);
    assert.deepEqual(await late.eval("[...new Set(titles)]"), ["Making your site · Nexus"], "an answer that is older than what is shown");
  });

  await t.test("offline, the form shows a visible message, and continues when online", async () => {
    const page = await visit(open);
    await page.fill({ organizationName: "Offline" });
    await page.offline(true);
    await page.click("#submit");
    await page.until(`document.getElementById("form-error").innerText.includes("trying again")`);
    assert.ok(await page.eval(inSight("form-error")), "the message is off the screen");
    assert.ok(await page.eval(inSight("submit")), "the button is off the screen");
    await page.offline(false);
    await page.until(shown("job"));
  });

  await t.test("offline, the job shows a message, and is followed again when online", async () => {
    const page = await signup({ organizationName: "Tunnel", email: "slow-site@example.com" });
    await page.until(`document.querySelector("#steps .done")`);
    await page.offline(true);
    await page.until(`document.getElementById("job-note").innerText.includes("cannot be reached")`);
    await page.offline(false);
    await page.until(shown("done"));
  });

  await t.test("the key is shown once; afterwards a note says what to do", async () => {
    const page = await signup({ organizationName: "Ready" });
    await page.until(shown("done"));
    const address = await page.eval("location.href");
    await page.click("#show-key");
    await page.until(`!document.getElementById("pair").hidden`);
    assert.match(await page.text("api-secret"), /^\w{20,}$/);
    for (const [url, want] of [[address, /ask the operator/], [address.split("&")[0], /is incomplete/], [address + "x", /is incomplete/]]) {
      const other = await visit(url);
      await other.until(shown("done"));
      if (url.includes("claim")) await other.click("#show-key");
      await other.until(`!document.getElementById("key-error").hidden`);
      assert.match(await other.text("key-error"), want);
      assert.equal(await other.eval(`document.getElementById("key-error").className`), "note");
      assert.equal(await other.text("pickup"), "");
    }
  });

  await t.test("a job that is not known may have been deleted, at a time that the operator chooses", async () => {
    const page = await visit(`${open}#job=${"0".repeat(32)}`);
    await page.until(`document.title.startsWith("This job is not known")`);
    assert.match(await page.text("job-error"), /^It may have been deleted, some time after its end, or/);
  });

  await t.test("if signups are closed, there is no form", async () => {
    for (const [mode, want] of [["closed", "Signing up is closed"], ["token", "Signing up needs a token"]]) {
      const page = await visit(await serve(t, { NEXUS_SIGNUP: mode }));
      assert.equal(await page.eval(`[...document.querySelectorAll("h1")].filter((h) => h.checkVisibility()).map((h) => h.innerText).join()`), want);
      assert.ok((await page.eval("document.title")).startsWith(want));
    }
  });

  await t.test("no text is cut off, and no error is thrown", async () => {
    const page = await visit(open);
    assert.equal(await page.text("suffix"), `.${domain}`);
    assert.ok(await page.eval(`suffix.scrollWidth <= suffix.clientWidth`), "the domain is cut");
    for (const each of pages) {
      assert.deepEqual(each.faults, []);
      assert.ok(await each.eval("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen");
    }
  });
});

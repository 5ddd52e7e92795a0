// Starts a browser and a "nexus dev" for the tests of the page. The browser is Chromium; the
// tests control it by the DevTools protocol through two pipes.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// started runs a program in a folder of its own, and ends it when the test is over.
async function started(t, command, args, options) {
  const dir = await mkdtemp(join(tmpdir(), "nexus-page-"));
  const child = spawn(command, args.map((arg) => arg.replace("{dir}", dir)),
    { ...options, env: { ...process.env, ...options.env, XDG_CACHE_HOME: dir } });
  child.on("error", (why) => { throw why; });
  t.after(async () => {
    if (child.exitCode === null && child.kill("SIGTERM")) await once(child, "exit");
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  });
  return child;
}

// serve starts "nexus dev" with these settings and returns its address.
export async function serve(t, env = {}) {
  const child = await started(t, process.env.NEXUS || "nexus", ["dev"], { stdio: ["ignore", "pipe", "ignore"],
    env: { NEXUS_HTTP_ADDR: "127.0.0.1:0", NEXUS_SANDBOX_ADDR: "127.0.0.1:0", NEXUS_TOKENS: "test:operate:0123456789abcdef", ...env } });
  for await (const line of createInterface({ input: child.stdout })) {
    const [, address] = /Sign up: +(\S+)/.exec(line) || [];
    if (address) {
      child.stdout.resume();
      return address;
    }
  }
  throw new Error("nexus dev did not start");
}

// Browser is one Chromium; each page has cookies and storage of its own.
export class Browser {
  #last = 0;
  #asked = new Map();
  #pages = new Map();

  static async start(t) {
    const child = await started(t, process.env.CHROMIUM || "chromium", ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
      "--no-first-run", "--user-data-dir={dir}", "--remote-debugging-pipe"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    return new Browser(child.stdio[3], child.stdio[4]);
  }

  constructor(to, from) {
    this.to = to;
    let kept = "";
    from.setEncoding("utf8").on("data", (text) => {
      const whole = (kept + text).split("\0");
      kept = whole.pop();
      for (const each of whole) this.#hear(JSON.parse(each));
    });
  }

  #hear({ id, sessionId, method, params, result, error }) {
    if (method) return this.#pages.get(sessionId)?.hear(method, params);
    const { resolve, reject, what } = this.#asked.get(id);
    this.#asked.delete(id);
    if (error) reject(new Error(`${what}: ${error.message}`));
    else resolve(result);
  }

  send(method, params = {}, sessionId = undefined) {
    return new Promise((resolve, reject) => {
      this.#asked.set(++this.#last, { resolve, reject, what: method });
      this.to.write(JSON.stringify({ id: this.#last, method, params, sessionId }) + "\0");
    });
  }

  // open loads an address on a small screen, with the time zone Europe/Berlin unless given.
  async open(url, { zone = "Europe/Berlin", rules = {} } = {}) {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId, rules);
    this.#pages.set(sessionId, page);
    await page.send("Runtime.enable");
    await page.send("Network.enable");
    await page.send("Emulation.setDeviceMetricsOverride", { width: 390, height: 844, deviceScaleFactor: 1, mobile: true });
    await page.send("Emulation.setTimezoneOverride", { timezoneId: zone });
    await page.send("Emulation.setUserAgentOverride", { userAgent: "test", acceptLanguage: "de-DE" });
    if (Object.keys(rules).length) await page.send("Fetch.enable");
    await page.send("Page.navigate", { url });
    await page.until(`document.readyState === "complete" && location.href !== "about:blank"`);
    return page;
  }
}

// Page is one tab. rules are answers that replace those of the server, by path: a status, a
// body, or 0 for no answer. faults are the errors that the page's code threw.
class Page {
  faults = [];
  sent = []; // bodies of signups

  constructor(browser, session, rules) {
    Object.assign(this, { browser, session, rules });
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  hear(method, params) {
    if (method === "Runtime.exceptionThrown") this.faults.push(params.exceptionDetails.exception?.description || params.exceptionDetails.text);
    if (method === "Network.requestWillBeSent" && params.request.url.endsWith("/signup")) this.sent.push(JSON.parse(params.request.postData));
    if (method !== "Fetch.requestPaused") return;
    const { requestId, request } = params;
    const rule = this.rules[new URL(request.url).pathname];
    if (rule === undefined) this.send("Fetch.continueRequest", { requestId });
    else if (rule === 0) this.send("Fetch.failRequest", { requestId, errorReason: "ConnectionFailed" });
    else if (typeof rule === "number") this.send("Fetch.fulfillRequest", { requestId, responseCode: rule });
    else this.send("Fetch.fulfillRequest", { requestId, responseCode: 200, responseHeaders: [{ name: "Content-Type", value: "application/json" }], body: btoa(JSON.stringify(rule)) });
  }

  async eval(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  // until waits until an expression is true on the page, 30 s at most.
  async until(expression) {
    for (const end = Date.now() + 30_000; ;) {
      if (await this.eval(`Boolean(${expression})`).catch(() => false)) return;
      if (Date.now() > end) throw new Error(`not in time: ${expression}; the page says: ${await this.eval("document.body.innerText")}`);
      await new Promise((next) => { setTimeout(next, 20); });
    }
  }

  // text returns the visible text of an element; empty if it is not shown.
  text(id) {
    return this.eval(`((e) => e.checkVisibility() ? e.innerText.trim() : "")(document.getElementById("${id}"))`);
  }

  async fill(values) {
    for (const [id, value] of Object.entries({ organizationName: "Acme", fullName: "Jane Doe", email: "jane@example.com", password: "Correct1Horse", ...values })) {
      await this.eval(`document.getElementById("${id}").focus()`);
      await this.send("Input.insertText", { text: value });
    }
  }

  click(selector) {
    return this.eval(`document.querySelector("${selector}").click()`);
  }

  offline(offline) {
    return this.send("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  }
}

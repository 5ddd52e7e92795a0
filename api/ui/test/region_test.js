import assert from "node:assert/strict";
import test from "node:test";
import { follow, groups, guess } from "../region.js";

const lists = {
  countries: [
    { code: "CL", name: "Chile", currency: "CLP", timezones: ["America/Santiago", "Pacific/Easter"] },
    { code: "DE", name: "Germany", currency: "EUR", timezones: ["Europe/Berlin"] },
    { code: "KP", name: "Nowhere", currency: "KPW", timezones: ["Asia/Gone"] },
    { code: "LI", name: "Liechtenstein", timezones: ["Europe/Zurich"] },
    { code: "CH", name: "Switzerland", currency: "CHF", timezones: ["Europe/Zurich"] },
    { code: "US", name: "United States", currency: "USD" },
  ],
  currencies: ["CHF", "CLP", "EUR", "USD"],
  languages: [{ code: "de", name: "Deutsch" }, { code: "en", name: "English" }, { code: "pt-BR", name: "Português (Brasil)" }],
  timezones: ["America/Santiago", "Europe/Berlin", "Europe/Zurich", "Pacific/Easter", "UTC"],
};
const none = { countries: [], currencies: [], languages: [], timezones: [] };

test("only values of the lists are guessed", () => {
  const rows = [
    ["usual", "Europe/Berlin", ["de-DE", "en"], "DE de Europe/Berlin EUR"],
    ["American browser in Germany", "Europe/Berlin", ["en-US"], "DE en Europe/Berlin EUR"],
    ["zone of two countries", "Europe/Zurich", ["de-CH"], "CH de Europe/Zurich CHF"],
    ["zone of two countries, no region", "Europe/Zurich", ["de"], " de Europe/Zurich "],
    ["unknown zone", "America/Coyhaique", ["es-CL"], "CL   CLP"],
    ["unknown zone and country", "Mars/Base", ["xx-XX"], "   "],
    ["currency not listed", "Asia/Gone", ["ko-KP"], "KP   "],
    ["no region, a script", "UTC", ["zh-Hans", "pt-br"], " pt-BR UTC "],
    ["script and region", "UTC", ["de-Latn-DE"], "DE de UTC EUR"],
    ["no settings", undefined, [], "   "],
  ];
  for (const [name, zone, languages, want] of rows) {
    const got = guess(lists, { zone, languages });
    assert.equal([got.country, got.language, got.timezone, got.currency].join(" "), want, name);
  }
  assert.deepEqual(guess(none, { zone: "Europe/Berlin", languages: ["de-DE"] }), { country: "", language: "", timezone: "", currency: "" });
});

test("a country sets its currency, and a zone of another country is not kept", () => {
  const rows = [
    ["DE", "", "EUR Europe/Berlin"], ["CL", "Pacific/Easter", "CLP Pacific/Easter"], ["CL", "Europe/Berlin", "CLP "],
    ["KP", "Europe/Berlin", " Europe/Berlin"], ["", "Europe/Berlin", " Europe/Berlin"],
  ];
  for (const [code, zone, want] of rows) {
    const got = follow(lists, code, zone);
    assert.equal(`${got.currency} ${got.timezone}`, want, `${code}, ${zone}`);
  }
});

test("each value is offered once, the country's own zones first", () => {
  const zones = groups(lists, "timezone", "CL");
  assert.deepEqual(zones.map(([heading]) => heading), ["Chile", "Europe", "Others"]);
  assert.deepEqual(zones[0][1], [["America/Santiago", "Santiago"], ["Pacific/Easter", "Easter"]]);
  const all = zones.flatMap(([, options]) => options.map(([value]) => value));
  assert.deepEqual(all.sort(), lists.timezones);
  assert.deepEqual(groups(lists, "timezone", "KP").map(([heading]) => heading), ["America", "Europe", "Pacific", "Others"]);
  assert.deepEqual(groups(lists, "country")[0][1][1], ["DE", "Germany"]);
  assert.deepEqual(groups(lists, "currency")[0][1][2], ["EUR", "EUR · Euro"]);
  for (const field of ["country", "language", "currency", "timezone"]) {
    assert.equal(groups(none, field).flatMap(([, options]) => options).length, 0, field);
  }
});

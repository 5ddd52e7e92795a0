// What the form offers of the lists of /choices, and what it guesses of them. No
// part of the document is touched here, so that it can be tested without one.

// guess is what the browser tells of the person's place and speech, as far as the
// lists have it. Many who live elsewhere use an American browser, so the time zone
// says more of the country than the language does.
export function guess(lists, { zone, languages }) {
  const known = (list, wish) => list.find((each) => each.toLowerCase() === wish.toLowerCase()) || "";
  const region = (languages[0] || "").split("-").slice(1).find((part) => part.length === 2) || "";
  const there = lists.countries.filter((country) => country.timezones?.includes(zone));
  const country = there.length === 1 ? there[0]
    : (there.length ? there : lists.countries).find(({ code }) => code === region.toUpperCase());
  const codes = lists.languages.map(({ code }) => code);
  const language = languages.map((tag) => known(codes, tag) || known(codes, tag.split("-")[0])).find(Boolean);
  return { country: country?.code || "", language: language || "", timezone: known(lists.timezones, zone || ""),
    currency: currencyOf(lists, country) };
}

// follow is what a change of the country changes with it. A zone of another country
// does not stay: a select passes other countries as one types.
export function follow(lists, code, zone) {
  const country = lists.countries.find((each) => each.code === code);
  const own = zonesOf(lists, country);
  const timezone = own.length === 0 || own.includes(zone) ? zone : own.length === 1 ? own[0] : "";
  return { currency: currencyOf(lists, country), timezone };
}

// groups are the options of a field, [value, text] each, under their headings.
export function groups(lists, field, code = "") {
  switch (field) {
    case "country":
      return [["", lists.countries.map((each) => [each.code, each.name])]];
    case "language":
      return [["", lists.languages.map((each) => [each.code, each.name]).sort((a, b) => a[1].localeCompare(b[1]))]];
    case "currency":
      return [["", lists.currencies.map((each) => [each, currencyName(each)])]];
    case "timezone":
      return zoneGroups(lists, lists.countries.find((each) => each.code === code));
  }
}

// The country's own zones come first. A zone is found by its city as one types.
function zoneGroups(lists, country) {
  const own = zonesOf(lists, country);
  const out = new Map(own.length ? [[country.name, own.map((zone) => [zone, city(zone)])]] : []);
  for (const zone of lists.timezones) {
    if (own.includes(zone)) continue;
    const area = zone.includes("/") ? zone.split("/")[0] : "Others";
    if (!out.has(area)) out.set(area, []);
    out.get(area).push([zone, city(zone)]);
  }
  return [...out];
}

const city = (zone) => zone.slice(zone.indexOf("/") + 1).replaceAll("_", " ");

const zonesOf = (lists, country) => (country?.timezones || []).filter((zone) => lists.timezones.includes(zone));

const currencyOf = (lists, country) => lists.currencies.find((each) => each === country?.currency) || "";

function currencyName(code) {
  const name = new Intl.DisplayNames(["en"], { type: "currency" }).of(code);
  return name === code ? code : `${code} · ${name}`;
}

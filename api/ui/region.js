// What the form offers from the lists of /choices, and which values it guesses. This file
// does not use the document, so it is tested without a browser.

// guess derives country, language, time zone and currency from the browser's settings, as
// far as the lists have them. The time zone is the better hint for the country, since many
// people outside the United States use an American browser.
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

// follow returns currency and time zone after the country was changed. A time zone of
// another country is not kept: it may come from a country that the select passed while the
// person was typing.
export function follow(lists, code, zone) {
  const country = lists.countries.find((each) => each.code === code);
  const own = zonesOf(lists, country);
  const timezone = own.length === 0 || own.includes(zone) ? zone : own.length === 1 ? own[0] : "";
  return { currency: currencyOf(lists, country), timezone };
}

// groups returns the options of a field as [heading, [[value, text], …]]; an empty heading
// means no group.
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

// zoneGroups lists the country's own zones first. The text of a zone is its city, so that
// typing the city selects it.
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

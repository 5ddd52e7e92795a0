# The countries, languages, time zones and currencies that sites of this bench can be set
# to, from Frappe's own lists, and the lengths of the fields that a signup fills.


def knows():
    from frappe.geo.country_info import get_all

    countries = [{"code": text(info.get("code")).upper(), "name": name, "currency": iso_currency(info.get("currency")),
                  "time_zones": [zone for zone in info.get("timezones") or [] if zone in usable_zones()]} for name, info in get_all().items()]
    return {"countries": sorted((c for c in countries if re.fullmatch("[A-Z]{2}", c["code"])), key=lambda c: c["name"]),
            "currencies": sorted({c["currency"] for c in countries if c["currency"]}), "languages": languages(),
            "time_zones": sorted(usable_zones()), "limits": limits()}


def iso_currency(value):
    return value if re.fullmatch("[A-Z]{3}", text(value)) else ""  # Angola's is KZ in Frappe's list, which is none


@functools.cache
def usable_zones():
    """Time zones that both Frappe's Python and its pages know; with any other a site uses
    UTC, or its forms fail."""
    try:
        from pytz import all_timezones as zones  # 15
    except ImportError:
        from zoneinfo import available_timezones

        zones = available_timezones()
    return frozenset(zones) & page_zones()


@functools.cache
def page_zones():
    from frappe.utils import momentjs

    return frozenset({*momentjs.data["zones"], *momentjs.data["links"]})


def usable_zone(name):
    """Whether a zone is in usable_zones, without the cost of reading the whole list, which
    on 16 is a file per zone."""
    try:
        from pytz import all_timezones_set

        return name in all_timezones_set and name in page_zones()
    except ImportError:
        import zoneinfo
    try:
        return name in page_zones() and bool(zoneinfo.ZoneInfo(name))
    except (KeyError, ValueError, OSError):  # the first: not found
        return False


def languages():
    import csv

    import frappe.geo

    folder = os.path.dirname(frappe.geo.__file__)
    rows = read_json(os.path.join(folder, "languages.json"))  # 15; 16 has a table
    if rows is None:
        with open(os.path.join(folder, "languages.csv"), encoding="utf-8") as f:
            rows = [{"code": row["language_code"], "name": row["language_name"]} for row in csv.DictReader(f)]
    return sorted(({"code": row["code"], "name": row["name"]} for row in rows), key=lambda row: row["code"])


def limits():
    """Characters; a Data field has 140 unless its DocType says otherwise
    (base_document.py, _validate_length), a password 512 (password.py)."""
    import frappe

    path = os.path.join(os.path.dirname(frappe.__file__), "core", "doctype", "user", "user.json")
    sizes = {field.get("fieldname"): int(field.get("length") or 140) for field in read_object(path).get("fields") or []}
    # The address is also the document's name, which holds 140 whatever the field holds.
    return {"email": min(140, sizes.get("email", 140)), "full_name": min(sizes.get(name, 140) for name in ("first_name", "last_name", "full_name")),
            "organization": 140, "password": 512}


def fitting(frappe, args):
    """Returns the settings of the region that Frappe knows, as it spells them, and a
    sentence on each that it does not: such a value would break forms."""
    fit, notes = {}, []
    for name, table in (("country", "tabCountry"), ("language", "tabLanguage"), ("currency", "tabCurrency")):
        asked = args.get(name)
        if not asked:
            continue
        rows = frappe.db.sql(f"SELECT name FROM `{table}` WHERE name = %s", country_name(asked) if name == "country" else asked)
        if rows:
            fit[name] = rows[0][0]
        else:
            notes.append(f"This server does not know the {name} {asked}; the site goes without.")
    zone = args.get("time_zone")
    if zone and not usable_zone(zone):
        notes.append(f"This server does not know the time zone {zone}; the site is on UTC.")
        zone = "UTC"
    if zone:
        fit["time_zone"] = zone
    return fit, notes


def country_name(asked):
    """Frappe's name of a country that is given by its ISO code or its name."""
    from frappe.geo.country_info import get_all

    if len(asked) != 2:
        return asked
    return next((name for name, info in get_all().items() if text(info.get("code")).upper() == asked.upper()), asked)

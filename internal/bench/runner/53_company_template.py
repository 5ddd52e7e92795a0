# The company of a template. Frappe's set-up wizard makes it under a name and an abbreviation
# that occur nowhere else. Freezing finds the columns that have them, so that a copy gets its
# own by one UPDATE per table (62_company.py).


def set_up(op):
    site = site_of(op)
    if site.room != TEMPLATES:
        raise Refusal("invalid", f"{site.name} was not made as a template.")
    begun = mapping(site.ours(op).marker().get("company"))
    if begun.get("done"):
        return {"changed": False}
    if begun:
        return {"skipped": True, "note": "Its set-up wizard was interrupted and cannot be repeated, so the site has to be made anew."}
    if site.frozen():
        raise Refusal("conflict", f"The template {site.short} is finished, and has no company.")
    with frappe_site(site) as frappe:
        answers = wizard_answers(frappe, op)
        years = fiscal_years(answers["country"])
        company = {"name": "Nexus" + capitals(16), "abbr": "NX" + capitals(abbreviation_room(answers["chart_of_accounts"]) - 2)}
        with site.locked_config() as config:
            config["nexus"]["company"] = company
        do_wizard(frappe, answers, company, years)
        note = f"The company's chart of accounts is {answers['chart_of_accounts']}.{left_out(frappe, company)}"
    forget_in_redis(op, site, frozen=True)
    with site.locked_config() as config:
        config["nexus"]["company"] = company | {"done": True}
    return {"changed": True, "note": note}


def capitals(length):
    return "".join(random_source.choice(string.ascii_uppercase) for _ in range(length))


def wizard_answers(frappe, op):
    """What the wizard is told of the country. Invalid: it cannot be told so."""
    if not has_companies(frappe):
        raise Refusal("invalid", "The bench's sites have no companies, since they lack the app erpnext; only the template plain can be made.")
    if frappe.db.sql("SELECT 1 FROM tabCompany LIMIT 1"):
        raise Refusal("invalid", "One of the bench's apps makes a company of its own when it is installed; only the template plain can be made.")
    from frappe.geo.country_info import get_all

    country = country_name(op.args["country"])
    about = mapping(get_all().get(country))
    if not about or not frappe.db.sql("SELECT 1 FROM tabCountry WHERE name = %s", country):
        raise Refusal("invalid", f"Frappe knows no country {country}; use a code of its list, which is at /choices.")
    currency = text(about.get("currency"))
    if not frappe.db.sql("SELECT 1 FROM tabCurrency WHERE name = %s", currency):
        raise Refusal("invalid", f"Frappe knows no currency of {country}, which a company needs.")
    zones = sorted(filter(usable_zone, about.get("timezones") or []))  # the wizard suggests the first in this order
    return {"language": "English", "country": country, "currency": currency, "timezone": zones[0] if zones else "UTC",
            "chart_of_accounts": chart_of(country, text(op.args.get("chart"))), "full_name": "", "enable_telemetry": 0, "setup_demo": 0}


def chart_of(country, word):
    """The name of a country's chart of accounts that has the word, or of any if it is empty.
    Of several it is one with an account for income, which an invoice needs, and the shortest
    name, which is the least special chart: ERPNext lists the country's own in the order of
    their folder on disk, which is another on each bench. Its standard ones come last."""
    from erpnext.accounts.doctype.account.chart_of_accounts.chart_of_accounts import get_charts_for_country

    def order(name):
        standard = name.startswith("Standard")
        return standard, not standard and all(account.get("account_type") != "Income Account" for _, account in accounts_of(name)), len(name), name

    charts = sorted(get_charts_for_country(country, with_standard=True), key=order)
    found = [name for name in charts if word.lower() in name.lower()]
    if not found:
        raise Refusal("invalid", f"There is no chart of accounts with the word {word} for {country}; there are: {', '.join(charts)}.")
    return found[0]


def accounts_of(chart):
    """Yields the accounts of a chart with their names."""
    from erpnext.accounts.doctype.account.chart_of_accounts.chart_of_accounts import get_chart

    branches = [get_chart(chart)]
    for branch in branches:
        for name, account in branch.items():
            if isinstance(account, dict):  # the other values are about the branch itself
                yield name.strip(), account
                branches.append(account)


def abbreviation_room(chart):
    """The number of characters that a company's abbreviation may have with a chart of
    accounts: an account's name is "<number> - <name> - <abbreviation>", of 140 at most."""
    longest = 0
    for name, account in accounts_of(chart):
        number = str(account.get("account_number") or "").strip()
        longest = max(longest, len(f"{number} - {name}" if number else name))
    room = min(ABBREVIATION, COMPANY_NAME - longest - len(" - "))
    if room < len("NX") + 3:
        raise Refusal("invalid", f"The accounts of the chart {chart} have names of up to {longest} characters, which leaves no room for a company's abbreviation; choose another chart.")
    return room


def fiscal_years(country):
    """The first and the last day of the fiscal year that has begun and of the next one. On
    any place on Earth today is in one of the two."""
    import erpnext

    path, begin = os.path.join(os.path.dirname(erpnext.__file__), "public", "js", "setup_wizard.js"), (1, 1)
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as f:
        _, _, table = f.read().partition("erpnext.setup.fiscal_years")
        for quoted, plain, month, day in re.findall(r'^\s*(?:"([^"]+)"|(\w+)):\s*\["(\d\d)-(\d\d)"', table.partition("};")[0], re.M):
            if country == (quoted or plain):
                begin = int(month), int(day)
    today = earliest_today()
    year = today.year - (today < datetime.date(today.year, *begin))
    first = [datetime.date(each, *begin) for each in (year, year + 1, year + 2)]
    # The table's last day is wrong in a leap year, if that is in February.
    return [(first[i], first[i + 1] - datetime.timedelta(days=1)) for i in (0, 1)]


def earliest_today():
    """The date in the time zone that is last to get to it."""
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=12)).date()


def year_name(first, last):
    """The name that ERPNext gives a fiscal year (install_fixtures.py, get_fy_details)."""
    return str(first.year) if first.year == last.year else f"{first.year}-{last.year}"


def do_wizard(frappe, answers, company, years):
    """Does the wizard and makes the next fiscal year. The wizard switches the scheduler on
    and gives the standard users the country's time zone: a copy's plan does the first, and
    these users are to have the zone that it sets for the site."""
    from frappe.desk.page.setup_wizard.setup_wizard import setup_complete

    frappe.local.lang = "en"  # of the fixtures; lang of the common config may be another
    scheduler = frappe.db.get_single_value("System Settings", "enable_scheduler")
    (first, last), *later = years
    setup_complete(answers | {"company_name": company["name"], "company_abbr": company["abbr"], "fy_start_date": str(first), "fy_end_date": str(last)})
    if not frappe.db.sql("SELECT 1 FROM tabCompany WHERE name = %s AND abbr = %s", (company["name"], company["abbr"])):
        said = frappe.db.sql("SELECT error FROM `tabError Log` ORDER BY creation DESC LIMIT 1")  # the wizard goes on after an error in a record
        raise Refusal("internal", "The set-up wizard made no company.", text(said[0][0])[-300:] if said else "")
    for first, last in later:
        frappe.get_doc({"doctype": "Fiscal Year", "year": year_name(first, last), "year_start_date": str(first), "year_end_date": str(last)}).insert(ignore_permissions=True)
    frappe.db.set_single_value("System Settings", "enable_scheduler", scheduler)
    frappe.db.sql("UPDATE tabUser SET time_zone = NULL WHERE name IN ('Administrator', 'Guest')")
    frappe.db.commit()


def left_out(frappe, company):
    """A sentence on the accounts that a chart does not name for all invoices; empty: none."""
    kinds = [kind for kind in ("receivable", "payable", "income", "expense") if not frappe.db.get_value("Company", company["name"], f"default_{kind}_account")]
    return f" It names no default account of the kind {', '.join(kinds)}, so each invoice has to." if kinds else ""


# --- freezing ------------------------------------------------------------------


def company_record(site, spec):
    """What the template's record has of its company, if it was set up; empty: it was not."""
    company = mapping(site.marker().get("company"))
    if not company and spec == "plain":
        return {}
    if not company.get("done"):
        raise Refusal("internal", f"The template {site.short} has no company; its set-up wizard was not done.")
    if spec == "plain":
        raise Refusal("internal", f"The template {site.short} has a company, so it cannot be the template plain.")
    names = company["name"], company["abbr"]
    with site_cursor(site) as cursor:
        demand_company(cursor, *names)
        _, last = demand_years(cursor)
        columns, problems = placeholder_columns(cursor, names)
    if problems:
        raise Refusal("internal", "The company's name stands in the template where it cannot be replaced, so no site is copied from it.", ", ".join(problems))
    return {"company": {"name": names[0], "abbr": names[1], "columns": columns}, "renew_from": str(last[0]), "ends": str(last[1])}


def demand_company(cursor, name, abbr):
    cursor.execute("SELECT name, abbr FROM tabCompany")
    found = [(row["name"], row["abbr"]) for row in cursor.fetchall()]
    cursor.execute("SELECT 1 FROM tabAccount WHERE company = %s AND is_group = 0 LIMIT 1", (name,))
    if found != [(name, abbr)] or not cursor.fetchall():
        raise Refusal("internal", "The template has not one company with accounts, as its set-up wizard makes it.", f"{found}")


def demand_years(cursor):
    """The fiscal year that has begun and the next one, as dates. Internal: one is missing."""
    cursor.execute("SELECT year_start_date AS first, year_end_date AS last FROM `tabFiscal Year` ORDER BY 1")
    years, today = [(row["first"], row["last"]) for row in cursor.fetchall()], earliest_today()
    found = [(now, after) for now, after in zip(years, years[1:]) if now[0] <= today <= now[1] and after[0] == now[1] + datetime.timedelta(days=1)]
    if len(years) < 2 or not found or found[0][1] != years[-1]:
        raise Refusal("internal", "The template has not the fiscal year of today and the next one; build it again.", f"{years}")
    return found[0]


def placeholder_columns(cursor, words):
    """The columns that have one of the words, by table, and columns where it must not be:
    in another case, which is not found again, or in JSON or HTML, which a quote or an
    ampersand of another name would break."""
    cursor.execute("SELECT c.table_name AS t, c.column_name AS c FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) "
                   "WHERE c.table_schema = DATABASE() AND t.table_type = 'BASE TABLE' AND c.character_set_name IS NOT NULL ORDER BY 1, 2")
    columns, found, problems = {}, {}, []
    for row in cursor.fetchall():
        columns.setdefault(row["t"], []).append(row["c"])
    for table, names in columns.items():
        look = {name: " OR ".join(f"LOCATE('{word.lower()}', LOWER(`{name}`)) > 0" for word in words) for name in names}
        cursor.execute(f"SELECT {', '.join(f'MAX({look[name]}) AS c{i}' for i, name in enumerate(names))} FROM `{table}`")
        hits = cursor.fetchone()
        for name in (name for i, name in enumerate(names) if hits[f"c{i}"]):
            found.setdefault(table, []).append(name)
            cursor.execute(f"SELECT DISTINCT `{name}` AS cell FROM `{table}` WHERE {look[name]}")
            problems += sorted({f"{why} {table}.{name}" for why in (misplaced(row["cell"], words) for row in cursor.fetchall()) if why})
    return found, problems


def misplaced(cell, words):
    """Why a word must not stand in a cell as it does; empty: it may."""
    if any(cell.count(word) != cell.lower().count(word.lower()) for word in words):
        return "another case in"
    if re.search(r"<[A-Za-z!/]|&(#\d+|#x[0-9A-Fa-f]+|[A-Za-z][A-Za-z0-9]*);", cell):  # not R&D
        return "HTML in"
    with contextlib.suppress(ValueError):
        return "JSON in" if isinstance(json.loads(cell), (dict, list, str)) else ""
    return ""


def ended(record):
    """Why a template is of no use by its fiscal years, as a sentence; empty: it is."""
    last = text(record.get("ends"))
    return "Its last fiscal year is over." if last and last < time.strftime("%Y-%m-%d", time.gmtime()) else ""


def to_renew(record):
    """Whether the last fiscal year of a template has begun everywhere; one that is built now
    has the next year too."""
    first = text(record.get("renew_from"))
    return bool(first) and first <= str(earliest_today())

# The company of a new site. A copy of a template with a company gets its own name and
# abbreviation by one transaction; renaming by Frappe would take over a minute. On any other
# site ERPNext's set-up wizard makes the company, and suggests the name and the abbreviation
# that are in the site's defaults (setup_wizard.js: sysdefaults.company_name and company_abbr).

COMPANY_NAME = 140  # characters; also of the root cost center, "<company> - <abbreviation>", and of an account
ABBREVIATION = 10


def company(op):
    site, name = site_of(op).ours(op), re.sub("[<>]", "", op.args["name"]).strip()[:COMPANY_NAME].strip()  # Frappe would store these as HTML
    abbr = text(op.args.get("abbr")).strip()[:ABBREVIATION]
    placeholders = read_object(placeholders_path(site))
    if placeholders:
        return name_company(op, site, placeholders, name or op.site.split(".")[0], abbr)
    with frappe_site(site) as frappe:
        if not has_companies(frappe):
            return {"skipped": True}
        if not name or frappe.db.sql("SELECT 1 FROM tabCompany LIMIT 1"):
            return {"changed": False}
        wanted = {"company_name": name, "company_abbr": abbr or abbreviation(name)}
        missing = set_defaults(frappe, {key: value for key, value in wanted.items() if value})
        have = site_defaults(frappe)
        wrong = [key for key in missing if have.get(key) != [wanted[key]]]
        if wrong:
            raise Refusal("internal", "The company's name was not stored.", f"{wrong}")
    return {"changed": bool(missing)}


def has_companies(frappe):
    """Whether the site has ERPNext's table of companies."""
    return bool(frappe.db.sql("SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'tabCompany'"))


def abbreviation(name):
    """Two to five letters and digits for a company's name: the first of each word, or of
    the name if it is one word. Shorter, or empty, if the name has no more of them."""
    words = [[c for c in word if c.isalpha() or c.isdecimal()] for word in re.split(r"[\s/&+.,-]+", name)]
    first = "".join(word[0] for word in words if word).upper()
    return (first if len(first) > 1 else "".join(c for word in words for c in word).upper())[:5]


# --- copies of a template with a company -----------------------------------------


def placeholders_path(site):
    """The file with the name and the abbreviation of the template's company and the columns
    that have them. It is in the folder of a copy until they are replaced."""
    return os.path.join(site.folder, "placeholders.json")


def name_company(op, site, placeholders, name, abbr):
    """Replaces the template's name and abbreviation. Again after it was ended anywhere, it
    does the rest, and what it has done stays."""
    import pymysql

    wanted, notes = abbr or abbreviation(name) or "CO", []
    abbr = wanted[:len(placeholders["abbr"])]  # a longer one does not fit into the names of accounts
    if abbr != wanted:
        notes.append(f"The company's abbreviation is shortened to {abbr}, since its chart of accounts has long names.")
    fits = name[:COMPANY_NAME - len(f" - {abbr}")].strip()
    names = (name, fits, f"{fits} Company")
    with site_cursor(site) as cursor:
        for each in names:
            try:
                replace_placeholders(cursor, placeholders, each, abbr)
                break
            except pymysql.err.MySQLError as e:  # too long, or the name of a cost center, as Main
                if e.args[0] not in (1406, 1062) or each == names[-1]:
                    raise
        forget_company(op, placeholders["name"])
        stored = check_company(cursor, placeholders, names)
    remove(placeholders_path(site))
    sync_dir(site.folder)
    if stored != name:
        notes.append(f"ERPNext cannot store the company's name as it was given, so it is: {stored}")
    return {"changed": True, "note": " ".join(notes)}


def replace_placeholders(cursor, placeholders, name, abbr):
    """Replaces both in one transaction. The abbreviation first, since the company's own
    name may contain any word; the template's name is longer than any abbreviation."""
    cursor.execute("SET SESSION sql_mode = 'STRICT_ALL_TABLES'")  # an error rather than a cut name
    cursor.execute("START TRANSACTION")
    try:
        for table, columns in sorted(placeholders["columns"].items()):
            parts = ", ".join(f"`{column}` = REPLACE(REPLACE(`{column}`, %s, %s), %s, %s)" for column in columns)
            cursor.execute(f"UPDATE `{table}` SET {parts}", (placeholders["abbr"], abbr, placeholders["name"], name) * len(columns))
        cursor.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(Exception):
            cursor.execute("ROLLBACK")
        raise


def forget_company(op, placeholder):
    """Deletes what the caches have of the template's company. Everything else that they have
    stays: to fill them again takes a second."""
    import redis

    names = ("defaults", *(f"defaults::{parent}" for parent in ("__default", "__global", placeholder)), f"document_cache::Company::{placeholder}")
    try:
        for server in redis_servers():
            server.delete(*(f"{op.db}|{name}" for name in names))  # 15 has one hash of defaults, 16 a key for each parent
    except redis.exceptions.RedisError as e:
        raise Refusal("unavailable", "The bench's Redis cannot be reached.", str(e)) from None


def check_company(cursor, placeholders, names):
    """The name that is stored, which must be one of names: a former attempt may have
    shortened it."""
    cursor.execute("SELECT name, company_name FROM tabCompany")
    found = [(row["name"], row["company_name"]) for row in cursor.fetchall()]
    cursor.execute("SELECT name FROM tabAccount WHERE LOCATE(%s, name) > 0 LIMIT 1", (placeholders["abbr"],))
    if found not in [[(name, name)] for name in names] or cursor.fetchall():
        raise Refusal("internal", "The company's name was not stored.", f"{found}")
    return found[0][0]

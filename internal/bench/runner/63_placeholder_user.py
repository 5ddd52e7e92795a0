# The user of a template. Frappe makes it once, with its roles and all that belongs to it,
# under an address and names that occur nowhere else; in a copy one transaction gives it the
# address and the names that were asked for. Frappe takes a second for the same. Both halves
# are here, since they share the list of columns.

# The columns that have the placeholder's address or names, each as its whole value. Where an
# app keeps them elsewhere too, templates have no user and each site's is made by Frappe.
OF_USER = {
    "tabUser": {"name": "email", "email": "email", "first_name": "first_name", "last_name": "last_name", "full_name": "full_name", "username": "username"},
    "tabHas Role": {"parent": "email"},
    "tabUser Social Login": {"parent": "email"},
    "tabDefaultValue": {"parent": "email"},
    "tabNotification Settings": {"name": "email", "user": "email"},
    "tabDocShare": {"user": "email", "share_name": "email"},
    "tabContact": {"name": "full_name", "first_name": "first_name", "last_name": "last_name", "full_name": "full_name", "email_id": "email", "user": "email"},
    "tabContact Email": {"parent": "full_name", "email_id": "email"},
}
# Apps whose hooks on a user depend on nothing but its address and roles, as long as the site
# has no other contacts and no employees.
KNOWN_HOOKS = ("frappe", "erpnext", "hrms")
# What a site's own rows may do with a new document: the column with its DocType, and a
# condition for a row that is in force.
AUTOMATIONS = {"Notification": ("document_type", "enabled = 1"), "Assignment Rule": ("document_type", "disabled = 0"), "Workflow": ("document_type", "is_active = 1"),
               "Milestone Tracker": ("document_type", "disabled = 0"), "Energy Point Rule": ("reference_doctype", "enabled = 1")}


def placeholder_user_path(site):
    """The file with the placeholder's address and names and the columns that have them. It
    is in the folder of a copy until its user is made."""
    return os.path.join(site.folder, "placeholder_user.json")


def new_placeholder_user():
    word = capitals(12).lower()
    first, last = f"nexusfirst{word}", f"nexuslast{word}"
    return {"email": f"nexus-{word}@placeholder.invalid", "first_name": first, "last_name": last, "full_name": f"{first} {last}", "username": first}


# --- freezing ------------------------------------------------------------------


def user_record(site):
    """Makes the template's user, and returns what the template's record has of it: `user`, or
    `no_user`, a sentence that says why there is none."""
    user = mapping(site.marker().get("user"))
    if not user:
        user = new_placeholder_user()
        with site.locked_config() as config:
            config["nexus"]["user"] = user
    with frappe_site(site) as frappe:
        if user_exists(frappe, user["email"]):  # of an attempt that was ended
            there = tables_of(frappe)
            remove_placeholder(frappe, user, {table: columns for table, columns in OF_USER.items() if table in there})
            frappe.db.commit()
        try:
            why = foreign_hooks(frappe) + automations(frappe) or problems_with(frappe, user)
        except Exception as e:  # as an app's mandatory field; sites can be made without it
            if api_error(e).code == "unavailable":
                raise
            why = [f"the bench refuses the template's own ({type(e).__name__})"]
        if why:
            frappe.db.rollback()
            return {"no_user": f"Frappe makes the user of each site, which takes about a second more: {'; '.join(why)}."}
        frappe.db.commit()
    return {"user": user}


def problems_with(frappe, user):
    """Makes the user, notes where its address and names are, and says why copies cannot have
    it; nothing: they can."""
    user["search"] = insert_placeholder(frappe, user)
    user["columns"], problems = placeholder_columns(Rows(frappe), [user["email"], user["first_name"], user["last_name"]])
    return problems + misfits(frappe, user)


class Rows:
    """A cursor of Frappe's own connection, whose rows are by name."""

    def __init__(self, frappe):
        self.frappe, self.rows = frappe, []

    def execute(self, sql):
        self.rows = self.frappe.db.sql(sql, as_dict=True)

    def fetchall(self):
        return self.rows

    def fetchone(self):
        return self.rows[0]


def foreign_hooks(frappe):
    """Says which apps do something of their own when a user is made, other than those whose
    hooks we know."""
    doctypes = {"*"} | {table.removeprefix("tab") for table in OF_USER}
    handlers = []
    for name in ("doc_events", "override_doctype_class", "extend_doctype_class"):
        for doctype, what in mapping(frappe.get_hooks(name)).items():
            if doctypes & set(doctype if isinstance(doctype, tuple) else [doctype]):
                for each in what.values() if isinstance(what, dict) else [what]:
                    handlers += each if isinstance(each, (list, tuple)) else [each]
    return [f"the app {app} has hooks of its own on users" for app in sorted({text(each).partition(".")[0] for each in handlers} - set(KNOWN_HOOKS))]


def automations(frappe):
    """Says which rows of the template, as of an app's fixtures, do something when a user is
    made."""
    there, doctypes = tables_of(frappe), [table.removeprefix("tab") for table in OF_USER]
    return [f"{name} {row[0]} is for users" for name, (column, condition) in AUTOMATIONS.items() if "tab" + name in there
            for row in frappe.db.sql(f"SELECT name FROM `tab{name}` WHERE `{column}` IN %s AND {condition} ORDER BY name", (doctypes,))]


def insert_placeholder(frappe, user):
    """Makes the user and its contact as Frappe does, without its background jobs and without
    asking for a picture at gravatar.com. It returns what Frappe would put into the index of
    its global search. Disabling the user by Frappe would switch its notifications off too, for
    good."""
    from frappe.core.doctype.user.user import create_contact

    search = []
    frappe.enqueue = lambda *_, **__: None
    with contextlib.suppress(ImportError):
        import frappe.contacts.doctype.contact.contact as contacts

        contacts.has_gravatar = lambda *_: ""
    with contextlib.suppress(ImportError):
        import frappe.utils.global_search as index

        index.sync_value_in_queue = search.append
    save_user(frappe, user["email"], {"first_name": user["first_name"], "last_name": user["last_name"], "enabled": 1}, wanted_roles(frappe, []))
    create_contact(frappe.get_doc("User", user["email"]), ignore_mandatory=True)
    frappe.db.sql("UPDATE tabUser SET enabled = 0 WHERE name = %s", user["email"])
    empty_logs(frappe.db.sql, tables_of(frappe))
    return search


def misfits(frappe, user):
    """Says which columns are not in OF_USER, or have more than the placeholder's value."""
    out, words = [], (user["email"], user["first_name"], user["last_name"])
    for table, name in [(table, name) for table, names in user["columns"].items() for name in names]:
        field = OF_USER.get(table, {}).get(name)
        if field is None:
            out.append(f"its address or names are in {table}.{name} too")
        elif frappe.db.sql(f"SELECT 1 FROM `{table}` WHERE ({' OR '.join([f'LOCATE(%s, `{name}`) > 0'] * len(words))}) AND BINARY `{name}` <> %s LIMIT 1", (*words, user[field])):
            out.append(f"its address or names are a part of {table}.{name}")
    return out


# --- copies --------------------------------------------------------------------


def take_placeholder(frappe, placeholder, email, fields, asked):
    """Gives the placeholder's rows to the user that is asked for, with the roles asked for or
    all, and reports whether it did. If it cannot, the rows are removed and Frappe has to make
    the user. Nothing is committed."""
    if not user_exists(frappe, placeholder["email"]):
        return user_exists(frappe, email)  # a former attempt was ended after its commit
    if fits_placeholder(frappe, placeholder, fields, asked):
        try:
            swap_user(frappe, placeholder, email, fields, asked)
            return True
        except Exception as e:
            if not e.args or e.args[0] not in (1406, 1062):  # too long, or taken
                raise
            frappe.db.rollback()
    remove_placeholder(frappe, placeholder, placeholder["columns"])
    return False


def remove_placeholder(frappe, user, columns):
    for table, names in sorted(columns.items()):
        where = " OR ".join(f"`{name}` = %s" for name in names)
        frappe.db.sql(f"DELETE FROM `{table}` WHERE {where}", [user[OF_USER[table][name]] for name in names])


def forget_placeholder(site):
    """Removes what is left of the placeholder where a worker of a former version, which does
    not know it, made the user."""
    placeholder = read_object(placeholder_user_path(site))
    if placeholder:
        with frappe_site(site) as frappe:
            remove_placeholder(frappe, placeholder, placeholder["columns"])
            frappe.db.commit()
        remove(placeholder_user_path(site))


def user_exists(frappe, email):
    return bool(frappe.db.sql("SELECT 1 FROM tabUser WHERE name = %s", email))


def fits_placeholder(frappe, placeholder, fields, asked):
    """Whether the rows can become this user's: its names are stored as they are, and the roles
    asked for are among the placeholder's and open the desk."""
    if re.search("[<>]", fields["first_name"] + fields["last_name"]):
        return False
    if not asked:
        return True
    have = {row[0] for row in frappe.db.sql("SELECT role FROM `tabHas Role` WHERE parent = %s AND parenttype = 'User'", placeholder["email"])}
    desk = {row[0] for row in frappe.db.sql("SELECT name FROM tabRole WHERE desk_access = 1")}
    return set(asked) <= have and bool(desk & set(asked))


def values_of(email, fields):
    """The address and the names, by the field of a placeholder that they replace."""
    return {"email": email, "first_name": fields["first_name"], "last_name": fields["last_name"], "full_name": full_name(fields)}


def swap_user(frappe, placeholder, email, fields, asked):
    wanted, now = values_of(email, fields), site_time(site_zone(frappe))
    wanted["username"] = free_username(frappe, wanted["first_name"])
    for table, columns in sorted(placeholder["columns"].items()):
        formers = [placeholder[OF_USER[table][name]] for name in columns]
        parts = ", ".join(f"`{name}` = IF(`{name}` = %s, %s, `{name}`)" for name in columns)
        values = [each for name, former in zip(columns, formers) for each in (former, wanted[OF_USER[table][name]])]
        where = " OR ".join(f"`{name}` = %s" for name in columns)
        frappe.db.sql(f"UPDATE `{table}` SET creation = %s, modified = %s, {parts} WHERE {where}", [now, now, *values, *formers])
    zone = fields.get("time_zone")
    frappe.db.sql("UPDATE tabUser SET enabled = 1, language = COALESCE(%s, language), time_zone = COALESCE(%s, time_zone) WHERE name = %s", (fields.get("language"), zone, email))
    if zone:
        frappe.db.sql("UPDATE tabDefaultValue SET defvalue = %s WHERE parent = %s AND defkey = 'time_zone'", (zone, email))
    frappe.db.sql("UPDATE `tabUser Social Login` SET userid = %s WHERE parent = %s AND provider = 'frappe'", (frappe.generate_hash(length=39), email))
    if asked:
        frappe.db.sql("DELETE FROM `tabHas Role` WHERE parent = %s AND parenttype = 'User' AND role NOT IN %s", (email, tuple(asked)))
        for place, role in enumerate(sorted(asked), 1):
            frappe.db.sql("UPDATE `tabHas Role` SET idx = %s WHERE parent = %s AND parenttype = 'User' AND role = %s", (place, email, role))
    if fields.get("language"):
        set_formats(frappe, email, fields["language"])
    for name in ("users_for_mentions", "enabled_users"):  # nothing is cached of the user itself yet
        frappe.cache.delete_value(name)


def queue_search(frappe, placeholder, email, fields):
    """Puts the user and its contact into the queue from which Frappe's scheduler fills the
    index of its global search. Again does no harm."""
    wanted = values_of(email, fields)
    for entry in placeholder.get("search") or []:
        for name in ("email", "full_name", "first_name", "last_name"):  # the full name has the two others
            entry = {key: value.replace(placeholder[name], wanted[name]) if isinstance(value, str) else value for key, value in entry.items()}
        with contextlib.suppress(Exception):  # an index is not worth a failure
            frappe.cache.lpush("global_search_queue", json.dumps(entry))


def free_username(frappe, first):
    """The user name as Frappe gives it (user.py, validate_username); None: it is taken."""
    name = frappe.scrub(first).strip(" @")
    return None if not name or frappe.db.sql("SELECT 1 FROM tabUser WHERE username = %s", name) else name


def set_formats(frappe, email, language):
    """From 16 on a user with a language has its formats of dates and numbers (user.py,
    on_update); the placeholder has those of the site's language."""
    if frappe_major() < 16:
        return
    names = "date_format", "time_format", "number_format", "first_day_of_the_week"
    frappe.db.sql("DELETE FROM tabDefaultValue WHERE parent = %s AND defkey IN %s", (email, names))
    for row in frappe.db.sql(f"SELECT {', '.join(names)} FROM tabLanguage WHERE name = %s", language):
        for name, value in zip(names, row):
            if value:
                put_default(frappe, email, name, value)

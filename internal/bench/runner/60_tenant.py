# Operations inside a tenant's site: user, plan, key. They use Frappe's own API; the
# parent has imported it already.


@contextlib.contextmanager
def frappe_site(site):
    import frappe

    os.chdir(SITES)
    frappe.init(site=site.name, sites_path=SITES)
    try:
        frappe.connect()
        frappe.set_user("Administrator")
        if needs_module_map():
            frappe.setup_module_map(include_all_apps=False)
        yield frappe
    except Refusal:
        raise
    except Exception as e:
        raise api_error(e) from e
    finally:
        with contextlib.suppress(Exception):
            frappe.destroy()


def tables_of(frappe):
    return {row[0] for row in frappe.db.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")}


NOT_GIVEN = ("Administrator", "Guest", "All", "Desk User")


def wanted_roles(frappe, asked):
    """The roles that are asked for, which must exist; none: all that a user may have."""
    names = [row[0] for row in frappe.db.sql("SELECT name FROM `tabRole` WHERE IFNULL(disabled, 0) = 0")]
    asked = asked or [name for name in names if name not in NOT_GIVEN]
    missing = [name for name in asked if name not in names]
    if missing:
        raise Refusal("invalid", f"The bench has no role {', '.join(missing)}.")
    return sorted(asked)


def ensure_user(op):
    site = site_of(op).ours(op)
    email, asked = op.args["email"].strip().lower(), op.args.get("roles") or []
    with frappe_site(site) as frappe:
        from frappe.utils.password import update_password

        roles = wanted_roles(frappe, asked)
        first, _, rest = op.args["full_name"].strip().partition(" ")
        fields = {"first_name": first, "last_name": rest, "enabled": 1}
        region, _ = fitting(frappe, op.args)  # the plan's note says what does not fit
        fields.update((name, region[name]) for name in ("language", "time_zone") if name in region)
        placeholder = read_object(placeholder_user_path(site))
        taken = bool(placeholder) and take_placeholder(frappe, placeholder, email, fields, asked)
        made, have = (True, []) if taken else save_user(frappe, email, fields, roles)
        kept = keep_names(frappe, email, fields)
        # This skips the site's password policy: the signup has checked the password by
        # its own, and has told the user that it is accepted.
        update_password(email, op.secrets["password"])
        frappe.db.commit()
        # An app's hook may remove roles (ERPNext: Employee, if there is no such
        # employee); that is an error only for roles that were asked for by name.
        check_user(frappe, email, asked or ["System Manager", *have])
        if taken:
            queue_search(frappe, placeholder, email, fields)
    remove(placeholder_user_path(site))
    return {"changed": made, "note": kept}


def full_name(fields):
    return " ".join(filter(None, (fields["first_name"], fields["last_name"])))


def save_user(frappe, email, fields, roles):
    """Makes or changes the user by Frappe's API. It returns whether it was made, and the roles
    that Frappe let it have."""
    made = not user_exists(frappe, email)
    if made:
        user = frappe.get_doc({"doctype": "User", "email": email, "send_welcome_email": 0, "user_type": "System User",
                               **fields, "roles": [{"role": role} for role in roles]})
        user.flags.no_welcome_mail = True
        user.insert(ignore_permissions=True)
    else:
        user = frappe.get_doc("User", email)
        for name, value in fields.items():
            user.set(name, value)
        user.set("roles", [])
        for role in roles:
            user.append("roles", {"role": role})
        user.flags.no_welcome_mail = True
        user.save(ignore_permissions=True)
    return made, [row.role for row in user.roles]


def keep_names(frappe, email, fields):
    """Restores the names that were asked for, unless they could be markup, and returns a
    sentence on what stays different. Frappe escapes names as HTML on each save (user.py,
    clean_name): mails and the API would show Tom &amp; Jerry."""
    names = {"first_name": fields["first_name"], "last_name": fields["last_name"], "full_name": full_name(fields)}
    if not re.search("[<>]", names["full_name"]) and stored(frappe, email, names) != names:
        set_columns(frappe, "User", email, names)
        frappe.clear_cache(user=email)
    have = stored(frappe, email, names)
    return "" if have == names else f"The site keeps the name as: {have['full_name']}"


def stored(frappe, email, names):
    columns = ", ".join(f"IFNULL({name}, '')" for name in names)
    return dict(zip(names, frappe.db.sql(f"SELECT {columns} FROM `tabUser` WHERE name = %s", email)[0]))


def set_columns(frappe, doctype, name, values):
    """Does what frappe.db.set_value does, which first reads half of the DocType and of the
    site's settings: on a new site that takes as long as all the rest of an operation."""
    values = {**values, "modified": site_time(site_zone(frappe)), "modified_by": frappe.session.user}
    frappe.db.sql(f"UPDATE `tab{doctype}` SET {', '.join(f'`{column}` = %s' for column in values)} WHERE name = %s", (*values.values(), name))
    frappe.clear_document_cache(doctype, name)


def check_user(frappe, email, roles):
    row = frappe.db.sql("SELECT enabled, user_type FROM `tabUser` WHERE name = %s", email)
    have = [r[0] for r in frappe.db.sql("SELECT role FROM `tabHas Role` WHERE parent = %s AND parenttype = 'User'", email)]
    missing = set(roles) - set(have)
    if not row or not row[0][0] or row[0][1] != "System User" or missing:
        raise Refusal("internal", "The admin user was not stored as it was asked for.", f"row {row}, missing roles {sorted(missing)}")


def apply_plan(op):
    site, args = site_of(op).ours(op), op.args
    with site.locked_config() as config:
        before = json.dumps(config, sort_keys=True)
        config.update(plan_config(args))
        changed = json.dumps(config, sort_keys=True) != before
    with frappe_site(site) as frappe:
        region, notes = fitting(frappe, args)
        wanted = {"enable_scheduler": "1", **region}
        rows = frappe.db.sql("SELECT field, value FROM `tabSingles` WHERE doctype = 'System Settings'")
        have = {field: value for field, value in rows}
        now = site_time(wanted.get("time_zone") or have.get("time_zone") or DEFAULT_ZONE)
        if different := {name: value for name, value in wanted.items() if have.get(name) != value}:
            frappe.db.set_single_value("System Settings", different, modified=str(now))
            changed = True
        if "currency" in region:
            set_currency(frappe, region["currency"])
        if site.marker().get("state") == "making" and "adopted" not in site.marker():
            begin_schedule(frappe, now)
        frappe.db.commit()
        rows = frappe.db.sql("SELECT field, value FROM `tabSingles` WHERE doctype = 'System Settings'")
        wrong = [name for name, value in wanted.items() if dict(rows).get(name) != value]
        if wrong:
            raise Refusal("internal", "The site's settings were not stored.", f"{wrong}")
    return {"changed": changed, "note": " ".join(notes)}


def plan_config(args):
    return {"nexus_plan": {"name": args["plan"], "users": args["users"], "storage_bytes": args["storage_bytes"]}, "host_name": args["host_name"], "monitor": 1}


DEFAULT_ZONE = "Asia/Kolkata"  # Frappe's, for a site without one


def begin_schedule(frappe, now):
    """Lets the periods of the scheduled jobs begin now. They count from the last run, or from
    the row's creation: on a copy of a template all of them would be due at the first tick."""
    frappe.db.sql("UPDATE `tabScheduled Job Type` SET last_execution = %s", (now,))


def site_time(zone):
    """The time in a time zone, as Frappe stores it. Frappe's own clock is not asked: it may
    still have a former zone, and reads half of its settings first."""
    return datetime.datetime.now(time_zone(zone)).replace(tzinfo=None)


def time_zone(name):
    """A time zone by its name; as in Frappe, UTC if nobody knows it."""
    from zoneinfo import ZoneInfo

    with contextlib.suppress(KeyError, ValueError, OSError):  # an image may be without the system's zones
        return ZoneInfo(name)
    with contextlib.suppress(ImportError, KeyError):
        from pytz import timezone  # 15

        return timezone(name)
    return datetime.timezone.utc


def site_zone(frappe):
    rows = frappe.db.sql("SELECT value FROM tabSingles WHERE doctype = 'System Settings' AND field = 'time_zone'")
    return rows and rows[0][0] or DEFAULT_ZONE


def site_defaults(frappe):
    """The defaults of the site, by name; one may have several values."""
    out = {}
    for key, value in frappe.db.sql("SELECT defkey, defvalue FROM tabDefaultValue WHERE parent = '__default'"):
        out.setdefault(key, []).append(value)
    return out


def set_defaults(frappe, values):
    """Sets defaults of the site and returns the names of those that were different. Unlike
    frappe.db.set_default it does not empty all caches of the site, which would take a second,
    and as long again to fill them."""
    have = site_defaults(frappe)
    missing = [key for key, value in values.items() if have.get(key) != [value]]
    for key in missing:
        put_default(frappe, "__default", key, values[key])
    if missing:
        from frappe.cache_manager import clear_defaults_cache

        frappe.db.commit()  # a request may read them again as soon as they are not cached
        clear_defaults_cache("__default")
    return missing


def put_default(frappe, parent, key, value):
    """Sets a default of the site or of a user, and leaves the caches as they are."""
    frappe.db.sql("DELETE FROM tabDefaultValue WHERE parent = %s AND defkey = %s", (parent, key))
    frappe.db.sql("INSERT INTO tabDefaultValue (name, creation, modified, owner, modified_by, parent, parenttype, parentfield, defkey, defvalue) "
                  "VALUES (%s, NOW(6), NOW(6), 'Administrator', 'Administrator', %s, '__default', 'system_defaults', %s, %s)", (frappe.generate_hash(length=10), parent, key, value))


def set_currency(frappe, currency):
    """Sets the default currency, which amounts without a currency are shown in, and
    enables it, so that forms offer it. Saving the System Settings and ERPNext's Global
    Defaults does the same."""
    set_defaults(frappe, {"currency": currency})
    if not frappe.db.sql("SELECT name FROM `tabCurrency` WHERE name = %s AND enabled = 1", currency):
        set_columns(frappe, "Currency", currency, {"enabled": 1})


def issue_key(op):
    site, email = site_of(op).ours(op), op.args["email"].strip().lower()
    wanted = op.secrets["api_key"], op.secrets["api_secret"]
    with frappe_site(site) as frappe:
        from frappe.utils.password import set_encrypted_password

        if "encryption_key" not in frappe.local.conf:
            with site.locked_config() as config:
                frappe.local.conf.encryption_key = give_encryption_key(config)
        have = key_pair(frappe, email)
        if have is None:
            raise Refusal("not_found", f"There is no user {email} on {site.name}.")
        if not frappe.db.sql("SELECT enabled FROM `tabUser` WHERE name = %s", email)[0][0]:
            raise Refusal("invalid", f"The user {email} is disabled on {site.name}, so its key would not work; enable the user there first.")
        lasts = masked(frappe, email, wanted[1])
        if have == wanted and lasts:
            return {"changed": False}
        keep_key(frappe, site, email, wanted)
        set_key_columns(frappe, email, wanted[0], mask(wanted[1]))
        set_encrypted_password("User", email, wanted[1], "api_secret")
        frappe.db.commit()
        if key_pair(frappe, email) != wanted or not masked(frappe, email, wanted[1]):
            raise Refusal("internal", "The API key was not stored.")
    return {"changed": True}


def mask(secret):
    """What Frappe keeps in the column of a Password field, while the secret is in __Auth.
    If the column is empty, saving the document removes the secret (base_document.py,
    _save_passwords)."""
    return "*" * len(secret)


def masked(frappe, email, secret):
    return frappe.db.sql("SELECT api_secret FROM `tabUser` WHERE name = %s", email)[0][0] == mask(secret)


def set_key_columns(frappe, email, key, secret):
    """Sets both columns, and `modified`: else a form with the former values could be
    saved over these."""
    set_columns(frappe, "User", email, {"api_key": key, "api_secret": secret})


def key_pair(frappe, email):
    """Returns a user's API key and secret, or None if there is no such user."""
    from frappe.utils.password import get_decrypted_password

    row = frappe.db.sql("SELECT api_key FROM `tabUser` WHERE name = %s", email)
    if not row:
        return None
    try:
        return row[0][0], get_decrypted_password("User", email, "api_secret", raise_exception=False)
    except (frappe.ValidationError, ValueError):  # sealed under another encryption key
        return row[0][0], None

# Sites of other makers. Their database is entered in the register with root's password;
# then a job may take the site over, and give it back as it was.

# What operations on an adopted site write into its config beside marker and plan.
TOUCHED = ("maintenance_mode", "pause_scheduler", "host_name", "monitor")
# What the plan writes into the System Settings, and what Frappe changes with them.
SETTINGS = ("enable_scheduler", "time_zone", "language", "country", "modified", "modified_by")


def unregistered(op):
    return Refusal("conflict", f"The database of {op.site} is not in the bench's register as this job's; nexus adopt enters it, with the database's root password.",
                   op.db)


def register(op):
    """Enters the database of a site in the register, as root: once for each site to be
    adopted. If the site has our marker its entry was lost, and becomes the job's again."""
    import pymysql

    if installed_id() != op.install:
        raise Refusal("conflict", f"This bench belongs to the install {installed_id() or '(none)'}, not to {op.install}; run: nexus bench init")
    site = site_of(op)
    name, marker = registrable(op, site), site.marker()
    root = connect_root(op)
    try:
        with root.cursor() as cursor:
            check_account(cursor, name)
            cursor.execute("INSERT IGNORE INTO nexus.register (name, install, job, adopted) VALUES (%s, %s, %s, %s)",
                           (name, op.install, marker.get("job", ""), int(not marker or "adopted" in marker)))
            changed = cursor.rowcount > 0
            cursor.execute("SELECT install FROM nexus.register WHERE name = %s", (name,))
            if cursor.fetchone()["install"] != op.install:
                raise Refusal("conflict", f"The database of {site.name} belongs to another install of Nexus.", name)
    except pymysql.err.ProgrammingError as e:
        raise Refusal("unavailable", "The bench is not set up for Nexus; run: nexus bench init", str(e)) from None
    except pymysql.err.MySQLError as e:
        raise database_error(e) from None
    finally:
        root.close()
    return {"changed": changed, "site": describe(op, site, {}.get, lambda job: [])}


def registrable(op, site):
    """Returns the name of the site's database, if only this site uses it."""
    config = site.config()
    name = config.get("db_name")
    if not site.exists() or not name:
        raise Refusal("not_found", f"There is no site {site.name} on this bench.")
    if "nexus" in config and site.marker().get("install") != op.install:
        raise Refusal("conflict", f"The site {site.name} belongs to another install of Nexus.", str(site.marker().get("install")))
    if not OTHER_DB_NAME.fullmatch(name) or name in SYSTEM_DBS:
        raise Refusal("invalid", f"The database {name} cannot be taken over: its name must be small letters, digits and underscores, and none of MariaDB's own.")
    if (config.get("db_user") or name) != name or (config.get("db_type") or "mariadb") != "mariadb":
        raise Refusal("invalid", f"{site.name} cannot be taken over: its database must be MariaDB, with a user of the same name.", str(config.get("db_user")))
    if (config.get("db_host") or common_config().get("db_host")) != common_config().get("db_host"):
        raise Refusal("invalid", f"{site.name} cannot be taken over: it is on another database server than the bench.", str(config.get("db_host")))
    other = shared_with(site, name)
    if other:
        raise Refusal("conflict", f"The sites {site.name} and {other} share one database; neither can be taken over.", name)
    return name


def check_account(cursor, name):
    """Refuses a database user that may do more than use the site's database: it will be
    dropped with the tenant's database."""
    cursor.execute("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", (name,))
    if not cursor.fetchall():
        raise Refusal("not_found", "The site's database is not on the bench's database server.", name)
    cursor.execute("SELECT 1 FROM mysql.global_priv WHERE User = %s AND JSON_VALUE(Priv, '$.access') > 0", (name,))
    powerful = cursor.fetchall()
    cursor.execute("SELECT Db FROM mysql.db WHERE User = %s", (name,))
    elsewhere = [row["Db"] for row in cursor.fetchall() if row["Db"].replace("\\", "") != name]
    if powerful or elsewhere:
        raise Refusal("invalid", f"The database user {name} may do more than use the site's database; it cannot be taken over.", f"also on: {elsewhere}")


def adopt(op):
    """Marks a complete site of another maker as this owner's, and keeps its former config
    and settings in the marker, for disown."""
    site = site_of(op)
    with site_lock(site.key):
        config, intent = site.config(), site.intent()
        if not site.exists() or not config.get("db_name"):
            raise Refusal("not_found", f"There is no site {site.name} on this bench.")
        mine = site.marker().get("job") == op.owner
        if config["db_name"] != op.db or ("nexus" in config and not mine) or (intent and intent.get("job") != op.owner):
            raise foreign(site)
        call(op, "take_database", op.db, op.install, op.owner)
        if mine:
            return {"changed": False}
        closed = [switch for switch in ("maintenance_mode", "pause_scheduler") if config.get(switch)]
        if closed:  # adoption opens the site, and mails and jobs that were held back would go out
            raise Refusal("invalid", f"The site {site.name} is closed ({', '.join(closed)}); open it first.")
        apps = site.apps()
        if "frappe" not in apps:
            raise Refusal("invalid", f"The site {site.name} is not complete; it cannot be taken over.", f"installed apps: {apps}")
        with site.locked_config() as config:
            if "nexus" in config:
                raise foreign(site)
            before = {name: config[name] for name in TOUCHED if name in config}
            config["nexus"] = {"install": op.install, "tenant": site.name, "job": op.owner, "state": "making", "apps": apps, "email": op.args.get("email", ""),
                               "madeAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                               "adopted": {"config": before, "settings": settings(site)}}
        site.close_packages()
    return {"changed": True}


def settings(site):
    rows = site.query("SELECT field, value FROM `tabSingles` WHERE doctype = 'System Settings' AND field IN %s", SETTINGS)
    return {row["field"]: row["value"] for row in rows}


def keep_key(frappe, site, email, pair):
    """Keeps the admin's former key in the marker, encrypted as it is, before an adoption
    replaces it, and the new key's fingerprint, so that disown takes back no other key. A
    retry leaves the former key of the first attempt."""
    key, column = frappe.db.sql("SELECT api_key, api_secret FROM `tabUser` WHERE name = %s", email)[0]
    secret = frappe.db.sql("SELECT password, encrypted FROM `__Auth` WHERE doctype = 'User' AND name = %s AND fieldname = 'api_secret'", email)
    with site.locked_config() as config:
        marker = config["nexus"]
        if "adopted" in marker and marker.get("state") == "making":
            kept = marker["adopted"].setdefault("key", {"user": email, "api_key": key, "column": column, "secret": [list(row) for row in secret], "given": []})
            kept["given"] = sorted({*kept["given"], fingerprint(pair)})


def fingerprint(pair):
    return hashlib.sha256(":".join(str(part) for part in pair).encode()).hexdigest()


def disown(op):
    """Gives an adopted site back. If it is not this owner's nothing is done: the undo of
    a refused adoption must not touch the site."""
    site = site_of(op)
    with site_lock(site.key):
        marker, changed = site.marker(), False
        if marker.get("job") == op.owner and site.config().get("db_name") == op.db:
            if "adopted" not in marker:
                raise Refusal("conflict", f"The site {site.name} was made by Nexus; it can be removed, not given back.")
            changed = give_back(site, mapping(marker["adopted"]))
    if (our_database(op, op.db) or {}).get("job") == op.owner:
        call(op, "release_database", op.db, op.install, op.owner)
    return {"changed": changed}


def give_back(site, before):
    """Restores key, settings and config. The marker is removed last, so a retry still
    finds what it keeps."""
    if "key" in before or settings(site) != before["settings"]:
        with frappe_site(site) as frappe:
            if "key" in before:
                restore_key(frappe, before["key"])
            frappe.db.sql("DELETE FROM `tabSingles` WHERE doctype = 'System Settings' AND field IN %s", (SETTINGS,))
            for row in before["settings"].items():
                frappe.db.sql("INSERT INTO `tabSingles` (doctype, field, value) VALUES ('System Settings', %s, %s)", row)
            frappe.clear_document_cache("System Settings", "System Settings")
            frappe.db.commit()
    site.open_packages()
    with site.locked_config() as config:
        for name in ("nexus", "nexus_plan", *TOUCHED):
            config.pop(name, None)
        config.update(before["config"])
    return True


def restore_key(frappe, kept):
    user = kept["user"]
    pair = key_pair(frappe, user)
    if pair is None or fingerprint(pair) not in kept["given"]:
        return  # the new key was never set, or was replaced since
    # A former version's marker lacks the column.
    set_key_columns(frappe, user, kept["api_key"], kept["column"] if "column" in kept else mask("of Frappe") if kept["secret"] else None)
    frappe.db.sql("DELETE FROM `__Auth` WHERE doctype = 'User' AND name = %s AND fieldname = 'api_secret'", user)
    for row in kept["secret"]:
        frappe.db.sql("INSERT INTO `__Auth` (doctype, name, fieldname, password, encrypted) VALUES ('User', %s, 'api_secret', %s, %s)", (user, *row))

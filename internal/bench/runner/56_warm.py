# The caches in Redis that a standby brings to a signup. Shelving fills them with what the steps
# of a signup read. While the bench is idle, `warm` adds what the first page of the desk reads:
# Frappe 15 takes a second to compute that, and Frappe 16 four.

# Tables that the first requests of a tenant and the steps after the claim use. A table that
# was counted is open in MariaDB.
WARMED = ("User", "Has Role", "Role", "User Social Login", "User Email", "User Permission", "Block Module", "Notification Settings", "Contact", "Contact Email",
          "DocShare", "DefaultValue", "Singles", "Scheduled Job Type", "Language", "Country", "Currency", "Company", "Customer", "Employee", "Sessions", "Activity Log",
          "Error Log", "Module Def", "Custom Field", "Property Setter", "DocType", "Server Script", "Client Script", "Workflow", "Assignment Rule", "Webhook",
          "Notification", "Version", "Comment", "Communication", "Email Queue", "Translation", "File", "Installed Application")


def fill_caches(site):
    """Fills the caches in Redis that a tenant's first requests read, and opens his tables,
    without leaving a row, job or session."""
    with frappe_site(site) as frappe:
        from frappe.translate import get_all_languages, get_all_translations

        frappe.setup_module_map(include_all_apps=False)
        there = tables_of(frappe)
        for doctype in ("User", "Customer"):
            if "tab" + doctype in there:
                frappe.get_list(doctype, fields=["name"], limit_page_length=1)
        frappe.get_hooks("doc_events")
        frappe.get_system_settings("time_zone")
        frappe.get_cached_doc("User", "Guest")
        frappe.db.get_tables()
        for doctype in ("Has Role", "Language", "Server Script", "Translation", "User Permission", "User Social Login"):
            frappe.get_meta(doctype)
        for doctype in ("Translation", "User Permission"):
            frappe.db.get_table_columns(doctype)
        get_all_languages()
        get_all_translations(frappe.local.lang)
        frappe.is_table("Customer")
        renamed = mapping(read_object(placeholders_path(site)).get("columns"))
        for table in ("__Auth", *(f"tab{name}" for name in WARMED), *renamed):
            if table in there:
                frappe.db.sql(f"SELECT COUNT(*) FROM `{table}`")
        frappe.db.rollback()


def warm_path(site):
    """The file with the keys that the standby's caches have, and the server that has them."""
    return os.path.join(site.folder, "warm.json")


def warming_path(site):
    """While this file exists, the caches may have the placeholders."""
    return os.path.join(site.folder, "warming")


def warm(op):
    """Fills the caches of a standby on the shelf, and changes nothing else. A claim may end it
    at any point."""
    site = on_shelf(op)
    if why := outdated(read_object(record_path(site)), bench_fingerprint()):
        raise Refusal("conflict", why)
    if still_warm([site]):
        return {"changed": False}
    with cache_server() as server:
        server.ping()  # Frappe works without it, and its every call would wait
    open(warming_path(site), "w").close()
    sync_dir(site.folder)
    try:
        with served_from_memory(site):
            fill_caches(site)
            compute_boot(site, read_object(placeholder_user_path(site)).get("email") or "Administrator")
    finally:
        clear_logs(site)
        forget_in_redis(op, site, frozen=True, caches=False)
        kept = forget_placeholders(op, site)
        remove(warming_path(site))
    note_keys(site, kept)
    return {"changed": True}


def on_shelf(op):
    """The operation's standby, which is on the shelf."""
    site = own_standby(op)
    if not site.frozen():
        raise Refusal("conflict", f"The standby {site.short} is not finished.")
    return site


def settle_warming(op, site):
    """Removes what is left of the warm-ups of a standby that a job has claimed. One that was
    ended may have left anything in the caches; then they are emptied."""
    if os.path.lexists(warming_path(site)):
        forget_in_redis(op, site, frozen=bool(site.room))
        remove(warming_path(site))
    forget_unfinished(warm_path(site))
    remove(warm_path(site))


@contextlib.contextmanager
def served_from_memory(site):
    """Lets Frappe use a site without its config's file: with the file there, requests would
    reach the site by their headers. Nothing else asks for a config meanwhile."""
    import frappe

    original = frappe.get_site_config

    def get_site_config(*args, **kwargs):
        frappe.local.flags.new_site = True  # else it refuses a site that has no config
        config = original(*args, **kwargs)
        frappe.local.flags.new_site = False
        config.update(site.config())
        config["db_user"] = config.get("db_user") or config["db_name"]  # 16 sets it before (config.py, _get_site_config)
        return config

    frappe.get_site_config = get_site_config
    try:
        yield
    finally:
        frappe.get_site_config = original


def compute_boot(site, user):
    """Has Frappe compute what it tells the desk at its start (boot.py), which fills the caches.
    What apps do then leaves no row."""
    with frappe_site(site) as frappe:
        from frappe.boot import get_bootinfo

        frappe.enqueue = frappe.local.db.commit = lambda *_, **__: None
        frappe.set_user(user)
        get_bootinfo()
        frappe.db.rollback()


def forget_placeholders(op, site):
    """Deletes from the caches what has an address or a name that the tenant's own will replace,
    that of the standby among them, and returns the keys that stay."""
    user, company = read_object(placeholder_user_path(site)), read_object(placeholders_path(site))
    words = [site.short] + [user[name] for name in ("email", "first_name", "last_name") if user] + [company[name] for name in ("name", "abbr") if company]
    with cache_server() as server:
        keys = list(server.scan_iter(f"{op.db}|*", count=1000))
        for key in keys:
            forget_words(server, key, [word.lower().encode() for word in words])
        pipe = server.pipeline(transaction=False)
        for key in keys:
            pipe.exists(key)
        return [key for key, there in zip(keys, pipe.execute()) if there]


def forget_words(server, key, words):
    """Deletes a cached value, or the fields of a hash, with one of the words. Of other types,
    which Frappe uses for queues, it deletes all."""
    def found(*texts):
        return any(word in text.lower() for text in texts for word in words)

    kind = server.type(key)
    if found(key) or kind not in (b"string", b"hash"):
        server.delete(key)
    elif kind == b"string":
        if found(server.get(key) or b""):
            server.delete(key)
    elif gone := [field for field, value in server.hgetall(key).items() if found(field, value)]:
        server.hdel(key, *gone)


def note_keys(site, keys):
    """Writes down the keys of the standby's caches that do not expire, and the server that has
    them, so that their loss is seen."""
    with cache_server() as server:
        pipe = server.pipeline(transaction=False)
        for key in keys:
            pipe.ttl(key)
        lasting = [key.decode() for key, seconds in zip(keys, pipe.execute()) if seconds == -1]
        write_json(warm_path(site), {"server": server.info("server")["run_id"], "keys": lasting}, durable=False)


def still_warm(sites):
    """The names of the standbys whose caches have all that the last warm-up left there. Redis
    may have evicted a key; one that was started anew may have read an old state from disk."""
    notes = {site.short: note for site in sites if isinstance((note := read_object(warm_path(site))).get("keys"), list) and note["keys"]}
    if not notes:
        return set()
    with cache_server() as server:
        pipe = server.pipeline(transaction=False)
        for note in notes.values():
            pipe.exists(*note["keys"])
        now, counts = server.info("server")["run_id"], pipe.execute()
    return {name for (name, note), count in zip(notes.items(), counts) if note.get("server") == now and count == len(note["keys"])}


@contextlib.contextmanager
def cache_server():
    """The Redis server with the caches of Frappe. Nothing here is worth a long wait for it."""
    import redis

    try:
        yield redis.Redis.from_url(common_config()["redis_cache"], socket_timeout=3, socket_connect_timeout=3, retry=None)
    except (redis.exceptions.RedisError, KeyError) as e:
        raise Refusal("unavailable", "The bench's Redis cannot be reached.", str(e)) from None

"""Making a site and installing apps, in steps that can be killed as the real ones can."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import click

import frappe
from frappe import data
from frappe.model import meta as metas
from frappe.utils.synchronization import filelock

INNODB = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET=utf8mb4 COLLATE=utf8mb4_unicode_ci"


def _new_site(db_name, site, *, install_apps=(), force=False, setup_db=True, mariadb_user_host_login_scope=None,
              **options):  # fmt: skip
    """Makes a site. Nothing is undone when a step fails."""
    if not force and os.path.exists(site):
        print(f"Site {site} already exists")
        sys.exit(1)
    frappe.init(site=site)
    if not db_name:
        # Derived from the path: the same name again means the same database again.
        path = os.path.realpath(frappe.get_site_path()).encode()
        db_name = "_" + hashlib.sha1(path, usedforsecurity=False).hexdigest()[:16]
    make_site_dirs()
    frappe.pause()
    with filelock("bench_new_site", timeout=1):
        install_db(db_name, force=force, setup=setup_db, scope=mariadb_user_host_login_scope, **options)
        for app in ["frappe", *(frappe.conf.get("install_apps") or []), *install_apps]:
            install_app(app)
        from frappe.utils import scheduler

        scheduler.toggle_scheduler(False)
        frappe.db.commit()
    print("*** Scheduler is", "disabled" if scheduler.is_scheduler_disabled() else "enabled", "***")


def make_site_dirs():
    for parts in (("public", "files"), ("private", "backups"), ("private", "files"), ("locks",), ("logs",)):
        os.makedirs(frappe.get_site_path(*parts), exist_ok=True)


# ---- the database


def install_db(db_name, *, db_root_username=None, db_root_password=None, admin_password=None, verbose=False,
               force=False, db_password=None, db_type=None, db_host=None, db_port=None, db_socket=None, setup=True,
               scope=None):  # fmt: skip
    make_site_config(db_name, db_password, db_type or frappe.conf.db_type, db_socket, db_host, db_port)
    site, sites_path = frappe.local.site, frappe.local.sites_path
    frappe.destroy()
    frappe.init(site, sites_path=sites_path)
    frappe.flags.in_install_db = True
    if setup:
        setup_database(force, scope, db_root_username or "root", db_root_password)
    bootstrap_database()
    frappe.conf.admin_password = frappe.conf.admin_password or admin_password
    for statement in OWN_TABLES:
        frappe.db.sql_ddl(statement)
    frappe.flags.in_install_db = False


def make_site_config(db_name, db_password, db_type, db_socket, db_host, db_port):
    """Writes the configuration only if there is none: an old file wins over flags."""
    path = get_site_config_path()
    if os.path.exists(path):
        return
    config = {"db_name": db_name, "db_password": db_password or frappe.utils.random_string(16), "db_type": db_type}
    for key, value in (("db_socket", db_socket), ("db_host", db_host), ("db_port", db_port)):
        if value:
            config[key] = value
    with open(path, "w") as f:
        f.write(json.dumps(config, indent=1, sort_keys=True))
    frappe.pause()


def get_site_config_path():
    return os.path.join(frappe.local.site_path, "site_config.json")


def update_site_config(key, value, validate=True, site_config_path=None):
    """Rewrites the file in place under its lock: a reader may see it half written."""
    path = site_config_path or get_site_config_path()
    with filelock("site_config", is_global="common_site_config" in path):
        with open(path) as f:
            config = json.load(f)
        value = {"0": 0, "1": 1, "false": False, "true": True}.get(value, value) if isinstance(value, str) else value
        if value == "None":
            config.pop(key, None)
        else:
            config[key] = value
        with open(path, "w") as f:
            f.write(json.dumps(config, indent=1, sort_keys=True))
    if hasattr(frappe.local, "conf"):
        frappe.local.conf[key] = value


def get_root_connection(login, password):
    """A connection as root: the password given, else configured, else asked for."""
    import getpass

    from frappe.database import get_db

    password = password or frappe.conf.get("root_password") or getpass.getpass("MySQL root password: ")
    conf = frappe.conf
    return get_db(socket=conf.db_socket, host=conf.db_host, port=conf.db_port, user=login, password=password)


def current_host(root):
    return root.sql("select user()")[0][0].split("@")[1]


def setup_database(force, scope, login, password):
    """User, database and grants; the user's host is ours as MariaDB sees it, or scope."""
    frappe.local.session = frappe._dict(user="Administrator")
    name, root = frappe.conf.db_name, get_root_connection(login, password)
    if not force and name in root.sql_list("SHOW DATABASES"):
        raise Exception(f"Database {name} already exists")
    host = scope or current_host(root)
    root.sql(f"DROP USER IF EXISTS '{name}'@'{host}'")
    root.sql_ddl(f"DROP DATABASE IF EXISTS `{name}`")
    root.sql(f"CREATE USER '{name}'@'{host}' IDENTIFIED BY '{frappe.conf.db_password}'")
    frappe.pause()
    root.sql(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    frappe.pause()
    root.sql(f"GRANT ALL PRIVILEGES ON `{name}`.* TO '{name}'@'{host}'")
    root.sql("FLUSH PRIVILEGES")
    root.close()


def drop_user_and_database(db_name, login, password):
    """Drops the site's users at '%' and at our own host; those at other hosts are left."""
    frappe.local.db = root = get_root_connection(login or "root", password)
    root.sql_ddl(f"DROP DATABASE IF EXISTS `{db_name}`")
    for host in ("%", current_host(root)):
        root.sql(f"DROP USER IF EXISTS '{db_name}'@'{host}'")


def bootstrap_database():
    """The framework's tables, fed to the MariaDB client program as the site's user."""
    frappe.connect()
    try:
        version = frappe.db.sql("select version()")[0][0].split("-", 1)[0].rsplit(".", 1)
        if tuple(int(part) for part in version[0].split(".")) >= (10, 9):
            click.secho(
                f"Warning: MariaDB version {version} is more than 10.8 which is not yet tested with Frappe Framework.",
                fg="yellow",
            )
    except Exception:
        click.secho("MariaDB version compatibility checks failed, make sure you're running a supported version.")
    import_framework_tables()
    frappe.pause()
    frappe.connect()
    if "tabDefaultValue" not in frappe.db.get_tables(cached=False):
        click.secho("Table 'tabDefaultValue' missing in the restored site. ", fg="red")
        sys.exit(1)


def import_framework_tables():
    client = shutil.which("mariadb") or shutil.which("mysql")
    conf = frappe.conf
    if not client:
        frappe.throw("mariadb not found in PATH! This is required to restore the database.", frappe.ExecutableNotFound)
    # The password stands on the command line, as the real one puts it there.
    address = [f"--socket={conf.db_socket}"] if conf.db_socket else [f"--host={conf.db_host}", f"--port={conf.db_port}"]
    command = [client, f"--user={conf.db_name}", *address, f"--password={conf.db_password}", conf.db_name]
    done = subprocess.run(command, input=framework_sql().encode(), capture_output=True)
    if done.returncode:
        for said in filter(None, (done.stderr, done.stdout)):
            print(said)  # as bytes, quotes and all
        raise frappe.CommandFailedError("Command failed", done.stdout.decode(), done.stderr.decode())
    frappe.cache.delete_keys("")


OWN_TABLES = (
    "create table if not exists `__Auth` (`doctype` varchar(140) NOT NULL, `name` varchar(255) NOT NULL,"
    " `fieldname` varchar(140) NOT NULL, `password` text NOT NULL, `encrypted` int(1) NOT NULL DEFAULT 0,"
    f" PRIMARY KEY (`doctype`, `name`, `fieldname`)) {INNODB}",
    "create table if not exists `__global_search` (`doctype` varchar(100), `name` varchar(140), `title` varchar(140),"
    " `content` text, `route` varchar(140), `published` int(1) NOT NULL DEFAULT 0, FULLTEXT (`content`),"
    " UNIQUE `doctype_name` (`doctype`, `name`)) ENGINE=MyISAM CHARACTER SET=utf8mb4 COLLATE=utf8mb4_unicode_ci",
    "create table if not exists `__UserSettings` (`user` varchar(180) NOT NULL, `doctype` varchar(180) NOT NULL,"
    f" `data` text, UNIQUE (`user`, `doctype`)) {INNODB}",
)


def framework_sql():
    special = {
        "Series": f"create table `tabSeries` (`name` varchar(100), `current` int(10) NOT NULL DEFAULT 0,"
        f" PRIMARY KEY (`name`)) {INNODB}",
        "Sessions": "create table `tabSessions` (`user` varchar(255), `sid` varchar(255), `sessiondata` longtext,"
        f" `ipaddress` varchar(16), `lastupdate` datetime(6), `status` varchar(20), KEY `sid` (`sid`)) {INNODB}",
        "Singles": "create table `tabSingles` (`doctype` varchar(255), `field` varchar(255), `value` text,"
        f" KEY `singles_doctype_field_index` (`doctype`, `field`)) {INNODB}",
        "Auth": OWN_TABLES[0],
    }
    out = []
    for name in data.FRAMEWORK:
        out.append(f"DROP TABLE IF EXISTS `{'__Auth' if name == 'Auth' else 'tab' + name}`")
        out.extend([special[name]] if name in special else metas.Meta(name).ddl())
    return ";\n".join(out) + ";\n"


# ---- apps


def install_app(name, verbose=False, set_as_patched=True, force=False):
    """Installs one app; rows committed before a failure stay."""
    from frappe.app_setup import after_install

    frappe.flags.in_install = name
    frappe.clear_cache()
    hooks = frappe.get_hooks(app_name=name)
    installed = frappe.get_installed_apps()
    for app in hooks.required_apps or []:
        install_app(app.split("/")[-1], verbose=verbose)
    frappe.flags.in_install = name
    frappe.clear_cache()
    if name not in frappe.get_all_apps():
        raise Exception(f"App {name} not in apps.txt")
    if not force and name in installed:
        click.secho(f"App {name} already installed", fg="yellow")
        return
    print(f"\nInstalling {name}...")
    if name != "frappe":
        frappe.only_for("System Manager")
        add_module_defs(name, ignore_if_duplicate=force)
    sync_for(name, force)
    add_to_installed_apps(name)
    frappe.pause(0.1)  # killed here, the app counts as installed and is only half there
    if set_as_patched:
        set_all_patches_as_completed(name)
    after_install(name)
    for customized in hooks.customizes or []:
        print(f"Updating customizations for {customized}")
    print(f"Updating Dashboard for {name}")
    frappe.flags.in_install = False


def add_module_defs(app, ignore_if_duplicate=False):
    modules = frappe.get_module_list(app)
    for module in modules:
        d = frappe.new_doc("Module Def")
        d.app_name = app
        d.module_name = module
        d.insert(ignore_permissions=True, ignore_if_duplicate=ignore_if_duplicate)


def sync_for(app_name, force=0):
    """One table every few files, one commit and one progress frame per file."""
    from frappe.utils import update_progress_bar

    doctypes, files = data.DOCTYPES[app_name], data.FILES[app_name]
    start, seconds = time.monotonic(), frappe.pace() * (1 if app_name == "frappe" else 1.33)
    made = 0
    for i in range(files):
        while made < len(doctypes) and made * files <= i * len(doctypes):
            import_doctype(app_name, doctypes[made])
            made += 1
        frappe.db.commit()
        update_progress_bar(f"Updating DocTypes for {app_name}", i, files)
        frappe.sleep_until(start, seconds * (i + 1) / files)
    print()


def import_doctype(app, name):
    meta = frappe.get_meta(name)
    frappe.db.commit()
    for statement in meta.ddl():
        frappe.db.sql_ddl(statement)
    frappe.db.sql(
        "insert into tabDocType (name, module, issingle, istable, creation, modified, owner, modified_by)"
        " values (%s, %s, %s, %s, now(6), now(6), 'Administrator', 'Administrator')"
        " on duplicate key update modified = now(6)",
        (name, data.MODULES[app][0], int(meta.issingle), int(meta.istable)),
    )


def add_to_installed_apps(app_name):
    installed = frappe.get_installed_apps()
    if app_name not in installed:
        frappe.db.set_global("installed_apps", json.dumps([*installed, app_name]))
        frappe.db.commit()
        frappe.clear_cache()
    apps = frappe.get_single("Installed Applications")
    complete = {app.app_name for app in apps.installed_applications if int(app.is_setup_complete or 0)}
    apps.set("installed_applications", [])
    for app in frappe.utils.get_installed_apps_info():
        wizard = int(app["app_name"] in ("frappe", "erpnext"))
        row = {"app_name": app["app_name"], "app_version": app["version"], "git_branch": app["branch"]}
        row["is_setup_complete"] = int(app["app_name"] in complete)
        apps.append("installed_applications", {**row, "has_setup_wizard": wizard})
    apps.save()


def set_all_patches_as_completed(app):
    rows = [(frappe.generate_hash(length=10), f"{app}.patches.p{n:03}") for n in range(data.PATCHES[app])]
    for name, patch in rows:
        frappe.db.sql(
            "insert into `tabPatch Log` (name, patch, creation, modified, owner, modified_by)"
            " values (%s, %s, now(6), now(6), 'Administrator', 'Administrator')",
            (name, patch),
        )
    frappe.db.commit()

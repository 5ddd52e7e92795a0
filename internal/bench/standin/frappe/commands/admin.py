"""Users, settings, backups and the rest of the commands our tests call."""

import ast
import getpass
import gzip
import json
import os
import subprocess
import sys
import tarfile
import time

import click

import frappe
import frappe.utils
from frappe.commands import each_site, pass_context


def _flag(name):
    return click.option(name, is_flag=True, default=False)


@click.command("add-user")
@click.argument("email")
@click.option("--first-name")
@click.option("--last-name")
@click.option("--password")
@click.option("--user-type")
@click.option("--add-role", multiple=True)
@_flag("--send-welcome-email")
@pass_context
def add_user(context, email, first_name, last_name, password, user_type, add_role, send_welcome_email):
    """Add user to a site"""
    from frappe.utils.password import update_password

    for _site in each_site(context):
        user = frappe.new_doc("User")
        user.update({"name": email, "email": email, "enabled": 1, "first_name": first_name or email})
        user.update({"last_name": last_name, "user_type": user_type, "send_welcome_email": int(send_welcome_email)})
        user.insert()
        user.add_roles(*add_role)
        if password:
            update_password(user=user.name, pwd=password)
        frappe.db.commit()


@click.command("add-system-manager")
@click.argument("email")
@click.option("--first-name")
@click.option("--last-name")
@click.option("--password")
@_flag("--send-welcome-email")
@pass_context
def add_system_manager(context, **options):
    """Add a new system manager to a site"""
    from frappe.utils.user import add_system_manager as add

    for _site in each_site(context):
        add(**options)
        frappe.db.commit()


@click.command("disable-user")
@click.argument("email")
@pass_context
def disable_user(context, email):
    """Disable a user account on site."""
    for _site in each_site(context):
        user = frappe.get_doc("User", email)
        user.enabled = 0
        user.save(ignore_permissions=True)
        frappe.db.commit()


@click.command("set-password")
@click.argument("user")
@click.argument("password", required=False)
@_flag("--logout-all-sessions")
@pass_context
def set_password(context, user, password=None, logout_all_sessions=False):
    """Set password for a user on a site"""
    _set_password(context, user, password, logout_all_sessions)


@click.command("set-admin-password")
@click.argument("admin-password", required=False)
@_flag("--logout-all-sessions")
@pass_context
def set_admin_password(context, admin_password=None, logout_all_sessions=False):
    """Set Administrator password for a site"""
    _set_password(context, "Administrator", admin_password, logout_all_sessions)


def _set_password(context, user, password, logout_all_sessions):
    from frappe.utils.password import update_password

    for site in each_site(context, connect=False):
        while not password:
            password = getpass.getpass(f"{user}'s password for {site}: ")
        frappe.connect()
        if not frappe.db.exists("User", user):
            print(f"User {user} does not exist")
            sys.exit(1)
        update_password(user=user, pwd=password, logout_all_sessions=logout_all_sessions)
        frappe.db.commit()


@click.command("set-config")
@click.argument("key")
@click.argument("value")
@click.option("-g", "--global", "global_", is_flag=True, default=False)
@click.option("-p", "--parse", is_flag=True, default=False)
@pass_context
def set_config(context, key, value, global_=False, parse=False):
    """Insert/Update a value in site_config.json"""
    from frappe.installer import update_site_config

    value = ast.literal_eval(value) if parse else value
    if global_:
        update_site_config(key, value, site_config_path=os.path.join(os.getcwd(), "common_site_config.json"))
        return
    for _site in each_site(context, connect=False):
        update_site_config(key, value)


@click.command("execute")
@click.argument("method")
@click.option("--args")
@click.option("--kwargs")
@pass_context
def execute(context, method, args=None, kwargs=None):
    """Execute a function; one that fails is called a second time."""
    for _site in each_site(context):
        args = eval(args) if args else ()
        kwargs = eval(kwargs) if kwargs else {}
        try:
            module, name = method.rsplit(".", 1)
            owner = frappe.db if module == "frappe.db" else frappe.get_module(module)
            ret = getattr(owner, name)(*args, **kwargs)
        except Exception:
            ret = eval(method + "(*args, **kwargs)", globals(), locals())
        frappe.db.commit()
        if ret:
            print(json.dumps(ret, default=str))


def _scheduler(name, enable, done):
    @click.command(name)
    @pass_context
    def command(context):
        from frappe.utils.scheduler import toggle_scheduler

        for site in each_site(context):
            toggle_scheduler(enable)
            frappe.db.commit()
            print(f"{done} for {site}")

    return command


@click.command("set-maintenance-mode")
@click.argument("state", type=click.Choice(["on", "off"]))
@pass_context
def set_maintenance_mode(context, state):
    """Put the site in maintenance mode"""
    from frappe.installer import update_site_config

    for _site in each_site(context, connect=False):
        update_site_config("maintenance_mode", int(state == "on"))


@click.command("clear-cache")
@pass_context
def clear_cache(context):
    """Clear cache"""
    for _site in each_site(context):
        frappe.clear_cache()


@click.command("use")
@click.argument("site")
def use(site):
    """Set a default site"""
    from frappe.installer import update_site_config

    if not os.path.exists(site):
        print(f"Site {site} does not exist")
        return
    frappe.init(site=site, force=True)
    update_site_config("default_site", site, site_config_path="common_site_config.json")
    print(f"Current Site set to {site}")


# ---- backups


def take_backup(site, with_files=False):
    """Writes the three or four files; returns [(kind, path)]."""
    conf, slug = frappe.conf, site.replace(".", "_").replace("/", "_")
    base = os.path.join(frappe.get_site_path(), "private", "backups", f"{time.strftime('%Y%m%d_%H%M%S')}-{slug}")
    command = ["mariadb-dump", f"--user={conf.db_name}", f"--host={conf.db_host}", f"--port={conf.db_port}"]
    command += [f"--password={conf.db_password}", "--single-transaction", "--quick", "--lock-tables=false"]
    dump = subprocess.run([*command, conf.db_name], capture_output=True)
    if dump.returncode:
        raise frappe.CommandFailedError("Command failed", "", dump.stderr.decode())
    out = [("Config", f"{base}-site_config_backup.json"), ("Database", f"{base}-database.sql.gz")]
    with open(out[0][1], "w") as f, open(frappe.get_site_path("site_config.json")) as source:
        f.write(source.read())
    with gzip.open(out[1][1], "wb", compresslevel=1) as f:
        f.write(dump.stdout)
    if with_files:
        for kind, folder in (("Public", "public"), ("Private", "private")):
            path = f"{base}-{'private-' if kind == 'Private' else ''}files.tgz"
            with tarfile.open(path, "w:gz") as tar:
                tar.add(frappe.get_site_path(folder, "files"), arcname=f"./{site}/{folder}/files")
            out.append((kind, path))
    return out


@click.command("backup")
@_flag("--with-files")
@_flag("--compress")
@_flag("--verbose")
@pass_context
def backup(context, with_files=False, compress=False, verbose=False):
    """Backup"""
    exit_code = 0
    if not context.sites:
        raise frappe.SiteNotSpecifiedError
    for site in context.sites:
        try:
            frappe.init(site=site)
            frappe.connect()
            files = take_backup(site, with_files)
        except Exception:
            if verbose:
                print(frappe.get_traceback())
            print(f"Backup failed for Site {site}. Database or site_config.json may be corrupted")
            exit_code = 1
            continue
        finally:
            frappe.destroy()
        print(f"\nBackup Summary for {site} at {time.strftime('%Y-%m-%d %H:%M:%S')}")
        for kind, path in files:
            print(f"{kind:8}: {path} {os.path.getsize(path) / 1024:.1f}KiB")
        print(f"Backup for Site {site} has been successfully completed{' with files' if with_files else ''}")
    sys.exit(exit_code)


commands = [
    add_user,
    add_system_manager,
    disable_user,
    set_password,
    set_admin_password,
    set_config,
    execute,
    _scheduler("enable-scheduler", True, "Enabled"),
    _scheduler("disable-scheduler", False, "Disabled"),
    set_maintenance_mode,
    clear_cache,
    use,
    backup,
]

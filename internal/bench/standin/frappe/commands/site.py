"""Making, filling and dropping a site."""

import os
import shutil
import sys

import click

import frappe
from frappe.commands import pass_context


@click.command("new-site")
@click.argument("site")
@click.option("--db-name")
@click.option("--db-password")
@click.option("--db-type", default="mariadb", type=click.Choice(["mariadb", "postgres"]))
@click.option("--db-host")
@click.option("--db-port", type=int)
@click.option("--db-root-username", "--mariadb-root-username")
@click.option("--db-root-password", "--mariadb-root-password")
@click.option("--db-socket", "--mariadb-db-socket", envvar="MYSQL_UNIX_PORT")
@click.option("--no-mariadb-socket", is_flag=True, default=False)
@click.option("--mariadb-user-host-login-scope")
@click.option("--admin-password")
@click.option("--verbose", is_flag=True, default=False)
@click.option("--force", is_flag=True, default=False)
@click.option("--install-app", "install_apps", multiple=True)
@click.option("--set-default", is_flag=True, default=False)
@click.option("--setup-db/--no-setup-db", default=True)
def new_site(site, no_mariadb_socket, set_default, **options):
    """Create a new site"""
    from frappe.commands.admin import use
    from frappe.installer import _new_site

    frappe.init(site=site, new_site=True)
    if site in frappe.get_all_apps():
        click.secho(f"Your bench has an app called {site}, please choose another name for the site.", fg="red")
        sys.exit(1)
    if no_mariadb_socket:
        options["mariadb_user_host_login_scope"] = "%"
    _new_site(options.pop("db_name"), site, **options)
    if set_default:
        use.callback(site)


@click.command("install-app")
@click.argument("apps", nargs=-1)
@click.option("--force", is_flag=True, default=False)
@pass_context
def install_app(context, apps, force=False):
    """Install a new app to site, supports multiple apps"""
    from frappe.installer import install_app as _install_app
    from frappe.utils.synchronization import filelock

    exit_code = 0
    if not context.sites:
        raise frappe.SiteNotSpecifiedError
    for site in context.sites:
        frappe.init(site=site)
        frappe.connect()
        with filelock("install_app", timeout=1):
            for app in apps:
                try:
                    _install_app(app, verbose=context.verbose, force=force)
                except frappe.IncompatibleApp as err:
                    print(f"App {app} is Incompatible with Site {site}:\n{err}")
                    exit_code = 1
                except Exception as err:
                    # Standard output, with every frame's variables: secrets included.
                    print(f"An error occurred while installing {app}: {err}\n{frappe.get_traceback(with_context=True)}")
                    exit_code = 1
            if not exit_code:
                frappe.db.commit()
        frappe.destroy()
    sys.exit(exit_code)


@click.command("drop-site")
@click.argument("site")
@click.option("--db-root-username", "--mariadb-root-username", "--root-login")
@click.option("--db-root-password", "--mariadb-root-password", "--root-password")
@click.option("--archived-sites-path")
@click.option("--no-backup", is_flag=True, default=False)
@click.option("--force", is_flag=True, default=False)
def drop_site(site, db_root_username, db_root_password, archived_sites_path, no_backup, force):
    """Remove a site from database and filesystem."""
    _drop_site(site, db_root_username, db_root_password, archived_sites_path, force, no_backup)


def _drop_site(site, db_root_username, db_root_password, archived_sites_path, force, no_backup):
    """Redis keys, queued jobs and users of other hosts stay behind."""
    from frappe.commands.admin import take_backup
    from frappe.installer import drop_user_and_database
    from frappe.utils import get_bench_path

    frappe.init(site=site)
    frappe.connect()
    if not no_backup:
        click.secho(f"Taking backup of {site}", fg="green")
        try:
            take_backup(site)
        except Exception as err:
            if not force:
                click.echo("=" * 80)
                click.echo(f"Error: The operation has stopped because backup of {site}'s database failed.")
                click.echo(f"Reason: {err}\n\nFix the issue and try again.")
                click.echo(f"Hint: Use 'bench drop-site {site} --force' to force the removal of {site}")
                sys.exit(1)
    click.secho("Dropping site database and user", fg="green")
    drop_user_and_database(frappe.conf.db_name, db_root_username, db_root_password)
    archive = os.path.realpath(archived_sites_path or os.path.join(get_bench_path(), "archived", "sites"))
    click.secho(f"Moving site to archive under {archive}", fg="green")
    os.makedirs(archive, exist_ok=True)
    target, count = os.path.join(archive, site), 0
    while os.path.exists(target + (str(count) if count else "")):
        count += 1
    shutil.move(frappe.get_site_path(), target + (str(count) if count else ""))
    frappe.destroy()


@click.command("list-apps")
@click.option("--format", "-f", "form", type=click.Choice(["text", "json"]), default="text")
@pass_context
def list_apps(context, form):
    """List apps in site."""
    summary = {}
    for site in context.sites:
        frappe.init(site=site)
        frappe.connect()
        apps = frappe.get_single("Installed Applications").installed_applications
        summary[site] = [app.app_name for app in apps]
        if form == "text":
            width, version = (max([len(getattr(a, f)) for a in apps] or [0]) for f in ("app_name", "app_version"))
            lines = [f"{a.app_name:{width}} {a.app_version:{version}} {a.git_branch}" for a in apps]
            print("\n" + "\n".join(lines or frappe.get_installed_apps()) + "\n")
        frappe.destroy()
    if form == "json":
        click.echo(frappe.as_json(summary))


commands = [new_site, install_app, drop_site, list_apps]

"""The commands, and the wrapper that words their commonest failures."""

import sys
from functools import wraps

import click

import frappe


def pass_context(f):
    """Gives the command its sites; a missing one ends it in a sentence, exit 1."""

    @wraps(f)
    def inner(ctx, *args, **kwargs):
        try:
            return f(frappe._dict(ctx.obj), *args, **kwargs)
        except frappe.SiteNotSpecifiedError as e:
            click.secho(str(e), fg="yellow")
            sys.exit(1)
        except frappe.IncorrectSitePath:
            click.secho(f"Site {ctx.obj['sites'][0]} does not exist!", fg="yellow")
            sys.exit(1)

    return click.pass_context(inner)


def each_site(context, connect=True):
    """Enters one site after the other."""
    if not context.sites:
        raise frappe.SiteNotSpecifiedError
    for name in context.sites:
        try:
            frappe.init(site=name)
            if connect:
                frappe.connect()
            yield name
        finally:
            frappe.destroy()


from frappe.commands import admin, site  # noqa: E402  (they need pass_context)

commands = [*site.commands, *admin.commands]

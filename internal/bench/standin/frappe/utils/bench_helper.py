"""The command line: python -m frappe.utils.bench_helper frappe [--site S] COMMAND …"""

import os
import warnings

import click

import frappe
import frappe.utils


def main():
    click.Group(commands={"frappe": app_group()})(prog_name="bench")


def app_group():
    from frappe.commands import commands

    @click.group(name="frappe", commands={command.name: command for command in commands})
    @click.option("--site")
    @click.option("--profile", is_flag=True, default=False)
    @click.option("--verbose", is_flag=True, default=False)
    @click.option("--force", is_flag=True, default=False)
    @click.pass_context
    def group(ctx, site=None, force=False, verbose=False, profile=False):
        ctx.obj = {"sites": get_sites(site), "force": force, "verbose": verbose, "profile": profile}
        ctx.info_name = ""

    return group


def get_sites(site):
    if site == "all":
        return frappe.utils.get_sites()
    site = site or os.environ.get("FRAPPE_SITE") or frappe.get_conf().default_site
    return [site] if site else []


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()

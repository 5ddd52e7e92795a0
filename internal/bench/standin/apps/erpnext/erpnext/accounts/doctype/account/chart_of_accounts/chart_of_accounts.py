"""Charts of accounts: files of some countries, and one for all others."""

import json
import os

import frappe

VERIFIED = os.path.join(os.path.dirname(__file__), "verified")
STANDARD = ["Standard", "Standard with Numbers"]


def get_charts_for_country(country, with_standard=False):
    """The country's charts in the order of its folder. All countries have the standard ones, if they are asked for
    or the country has not exactly one."""
    code = frappe.get_cached_value("Country", country, "code")
    charts = []
    for name in os.listdir(VERIFIED) if code else ():
        if name.startswith((code, country)) and name.endswith(".json"):
            charts.append(_read(name)["name"])
    return charts + (STANDARD if with_standard or len(charts) != 1 else [])


def get_chart(name):
    """The tree of a chart; nothing for one that there is not."""
    if name in STANDARD:
        return _read("../standard.json")
    return next((chart["tree"] for chart in map(_read, os.listdir(VERIFIED)) if chart["name"] == name), None)


def _read(name):
    with open(os.path.join(VERIFIED, name), encoding="utf-8") as f:
        return json.load(f)

"""What the desk is told when it starts. Most of it is computed once and cached: a part for
the user, a part for everybody, and a part that expires."""

import frappe
import frappe.defaults


def get_bootinfo():
    user = frappe.session.user
    frappe.pause()
    frappe.get_roles(user)
    frappe.get_cached_doc("User", user)
    frappe.defaults.get_defaults_for(user)
    company = frappe.defaults.get_defaults_for().company
    for doctype in ("User", "Contact", "Customer"):
        frappe.cache.set_value(f"masked_fields::{doctype}::{user}", [])
        frappe.cache.hset("table_columns", doctype, ["name", "owner", "modified"])
    frappe.cache.set_value("letter_heads", {company: "None"})
    frappe.cache.set_value("workspace_pages", ["Home", "Accounting", "Selling"])
    frappe.cache.set_value("changelog", [], expires_in_sec=3600)
    return frappe._dict(user={"name": user}, sitename=frappe.local.site, sysdefaults={"company": company})

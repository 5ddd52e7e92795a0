"""Default values: rows of tabDefaultValue by parent (__default, __global, a user)."""

import frappe
from frappe import release


def get_defaults_for(parent="__default"):
    """{key: value} of one parent, cached in Redis as the real one does."""
    cached = cached_defaults(parent)
    if cached is not None:
        return frappe._dict(cached)
    rows = frappe.db.sql("select defkey, defvalue from tabDefaultValue where parent = %s order by creation", parent)
    if release.DEFAULTS_APART:
        frappe.cache.set_value(f"defaults::{parent}", dict(rows))
    else:
        frappe.cache.hset("defaults", parent, dict(rows))
    return frappe._dict(rows)


def cached_defaults(parent):
    if release.DEFAULTS_APART:
        return frappe.cache.get_value(f"defaults::{parent}")
    return frappe.cache.hget("defaults", parent)


def forget_defaults(parent):
    """Drops what is cached of one parent."""
    if release.DEFAULTS_APART:
        frappe.cache.delete_value(f"defaults::{parent}")
    else:
        frappe.cache.hdel("defaults", parent)


def set_default(key, value, parent="__default", parenttype=None):
    """Replaces the value; None removes it."""
    frappe.db.sql("delete from tabDefaultValue where defkey = %s and parent = %s", (key, parent))
    if value is not None:
        add_default(key, value, parent, parenttype)
    forget_defaults(parent)


def add_default(key, value, parent, parenttype=None):
    frappe.get_doc(
        {
            "doctype": "DefaultValue",
            "parent": parent,
            "parenttype": parenttype or "__default",
            "parentfield": "system_defaults",
            "defkey": key,
            "defvalue": str(value),
        }
    ).insert(ignore_permissions=True)
    forget_defaults(parent)


def set_global_default(key, value):
    set_default(key, value, "__default")


def get_global_default(key):
    return get_defaults_for().get(key)


def set_user_default(key, value, user=None, parenttype=None):
    set_default(key, value, user or frappe.session.user, parenttype)

"""What is cached of a site in Redis."""

import frappe

common_default_keys = ["__default", "__global"]


def clear_defaults_cache(user=None):
    if user:
        for parent in [user, *common_default_keys]:
            frappe.cache.hdel("defaults", parent)
    else:
        frappe.cache.delete_value("defaults")

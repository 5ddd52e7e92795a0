"""What is cached of a site in Redis."""

import frappe

common_default_keys = ["__default", "__global"]


def clear_defaults_cache(user=None):
    from frappe.defaults import forget_defaults

    if user:
        for parent in [user, *common_default_keys]:
            forget_defaults(parent)
    else:
        frappe.cache.delete_value("defaults")
        frappe.cache.delete_keys("defaults::")

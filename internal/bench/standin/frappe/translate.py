"""What the bench's runner asks of frappe.translate."""

import frappe


def get_all_languages(with_language_name=False):
    """The languages that a user may choose; the list is remembered in Redis."""
    return frappe.cache.get_value("languages", lambda: frappe.get_all("Language", {"enabled": 1}, pluck="name"))

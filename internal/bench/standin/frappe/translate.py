"""What the bench's runner asks of frappe.translate."""

import frappe


def get_all_translations(lang):
    """A language's words, which are merged once."""
    if frappe.cache.hget("merged_translations", lang) is None:
        frappe.cache.hset("merged_translations", lang, {})
    return frappe.cache.hget("merged_translations", lang)


def get_all_languages(with_language_name=False):
    """The languages that a user may choose; the list is remembered in Redis."""
    return frappe.cache.get_value("languages", lambda: frappe.get_all("Language", {"enabled": 1}, pluck="name"))

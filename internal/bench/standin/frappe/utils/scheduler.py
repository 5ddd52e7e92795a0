"""The site's scheduler switch."""

import frappe


def is_scheduler_disabled(verbose=True):
    if frappe.conf.disable_scheduler:
        return True
    return not frappe.db.get_single_value("System Settings", "enable_scheduler")


def toggle_scheduler(enable):
    frappe.db.set_single_value("System Settings", "enable_scheduler", int(enable))


def enable_scheduler():
    toggle_scheduler(True)


def disable_scheduler():
    toggle_scheduler(False)

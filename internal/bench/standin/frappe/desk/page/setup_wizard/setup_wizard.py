"""The set-up wizard: the framework's settings, then the stages of the apps. Each stage is told to the browser, and what
it has committed stays if a later one fails or the process ends."""

import json

import frappe
from frappe import release
from frappe.geo.country_info import get_all


def setup_complete(args):
    """Does the whole wizard, unless it is done."""
    if frappe.is_setup_complete():
        return {"status": "ok"}
    args = {key: value.strip() if isinstance(value, str) else value for key, value in dict(frappe.parse_json(args)).items()}
    return process_setup_stages(get_setup_stages(frappe._dict(args)), args)


def get_setup_stages(args):
    stages = [("Updating global settings", "frappe", lambda: update_global_settings(args))]
    for method in frappe.get_hooks("setup_wizard_stages"):
        stages += frappe.get_attr(method)(args)
    return [*stages, ("Wrapping up", None, lambda: run_post_setup_complete(args))]


def process_setup_stages(stages, args):
    complete = frappe.get_all("Installed Application", {"has_setup_wizard": 1, "is_setup_complete": 1}, pluck="app_name")
    frappe.flags.in_setup_wizard = True
    try:
        for i, (status, app, stage) in enumerate(stages):
            frappe.publish_realtime("setup_task", {"progress": [i, len(stages)], "stage_status": status})
            if app in complete:
                continue
            stage()
            frappe.db.set_value("Installed Application", {"app_name": app or "frappe"}, "is_setup_complete", 1)
            frappe.pause()
    except Exception:
        frappe.db.rollback()
        traceback = frappe.get_traceback(with_context=True)
        print(traceback)
        with open("../logs/setup-wizard.log", "w+") as f:
            f.write(traceback + json.dumps(args, default=str))
        frappe.log_error("Setup failed", traceback)
        raise
    finally:
        frappe.flags.in_setup_wizard = False
    return {"status": "ok"}


def update_global_settings(args):
    """Settings, and their defaults; with a country the scheduler is on from here."""
    if not args.country:
        return
    language = frappe.db.get_value("Language", {"language_name": args.language}) or "en"
    shared = {"country": args.country, "language": language, "time_zone": args.timezone, "currency": args.currency}
    shared |= {"date_format": get_all().get(args.country, {}).get("date_format") or "dd-mm-yyyy", "number_format": "#,###.##"}
    frappe.db.set_single_value("System Settings", {**shared, "enable_scheduler": 1})
    for key, value in shared.items():
        frappe.db.set_default(key, value)
    if args.email:
        user = frappe.get_doc({"doctype": "User", "email": args.email, "first_name": args.full_name or args.email})
        user.append_roles(*frappe.get_all("Role", {"name": ("not in", ["Administrator", "Guest", "All"])}, pluck="name"))
        user.flags.no_welcome_mail = True
        user.insert(ignore_permissions=True)
    if args.timezone:
        frappe.db.set_value("User", {"name": ("in", ["Administrator", "Guest"])}, "time_zone", args.timezone)
    frappe.db.commit()
    frappe.clear_cache()


def run_post_setup_complete(args):
    frappe.db.set_default("desktop:home_page", "workspace")
    frappe.db.set_single_value("System Settings", "enable_onboarding", 1)
    if release.SETUP_IN_SETTINGS:
        frappe.db.set_single_value("System Settings", "setup_complete", 1)
    frappe.enqueue("frappe.utils.global_search.sync_global_search", enqueue_after_commit=True)
    frappe.db.commit()
    frappe.clear_cache()
    frappe.defaults.get_defaults_for()  # asked for at once, and so cached again

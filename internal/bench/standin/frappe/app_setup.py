"""What an app does after its tables are there: users, roles, master data."""

import getpass

import frappe
from frappe import data
from frappe.geo.country_info import get_all
from frappe.utils.password import update_password


def after_install(app):
    """Roles first, then what only the framework itself makes."""
    for role in data.ROLES[app]:
        desk = int(role not in data.WITHOUT_DESK)
        doc = frappe.get_doc({"doctype": "Role", "role_name": role, "desk_access": desk})
        doc.insert(ignore_permissions=True, ignore_if_duplicate=True)
    if app != "frappe":
        frappe.get_doc("User", "Administrator").add_roles(*frappe.get_all("Role", pluck="name"))
        frappe.db.commit()
        return
    for kind in ("System User", "Website User"):
        frappe.get_doc({"doctype": "User Type", "name": kind, "is_standard": 1}).insert(ignore_if_duplicate=True)
    _standard_users()
    _master_data()
    for module in data.MODULES["frappe"]:
        doc = frappe.get_doc({"doctype": "Module Def", "module_name": module, "app_name": "frappe"})
        doc.insert(ignore_if_duplicate=True)
    frappe.get_doc("User", "Administrator").add_roles(*frappe.get_all("Role", pluck="name"))
    update_password("Administrator", get_admin_password())
    if not frappe.conf.skip_setup_wizard:
        frappe.db.set_default("desktop:home_page", "setup-wizard")
    with open(frappe.get_site_path(".test_log"), "w") as f:
        f.write("")
    frappe.db.commit()


def _standard_users():
    for name, flag in (("Administrator", "is_admin"), ("Guest", "is_guest")):
        frappe.get_doc(
            {
                "doctype": "User",
                "name": name,
                "first_name": name,
                "email": "admin@example.com" if flag == "is_admin" else "guest@example.com",
                "enabled": 1,
                flag: 1,
                "roles": [{"role": name}],
                "thread_notify": 0,
            }
        ).insert(ignore_if_duplicate=True)


def _master_data():
    """Languages, countries and currencies in one statement each: their number is not the point."""
    stamp = "now(6), now(6), 'Administrator', 'Administrator'"
    columns = "creation, modified, owner, modified_by"
    rows = ", ".join([f"(%s, %s, %s, 1, {stamp})"] * len(data.LANGUAGES))
    frappe.db.sql(
        f"insert into tabLanguage (name, language_code, language_name, enabled, {columns}) values {rows}",
        [code for code in data.LANGUAGES for _ in range(3)],
    )
    known = get_all()
    countries = sorted({*data.COUNTRIES, *known})
    rows = ", ".join([f"(%s, %s, %s, {stamp})"] * len(countries))
    frappe.db.sql(
        f"insert into tabCountry (name, country_name, code, {columns}) values {rows}",
        [value for country in countries for value in (country, country, known.get(country, {}).get("code"))],
    )
    currencies = sorted({info["currency"] for info in get_all().values() if info.get("currency")})
    rows = ", ".join([f"(%s, %s, 0, {stamp})"] * len(currencies))
    frappe.db.sql(
        f"insert into tabCurrency (name, currency_name, enabled, {columns}) values {rows}",
        [currency for currency in currencies for _ in range(2)],
    )
    defaults = {"time_zone": "Asia/Kolkata", "enable_password_policy": 1, "minimum_password_score": "2"}
    frappe.db.set_single_value("System Settings", {**defaults, "setup_complete": 0, "enable_scheduler": 0})


def get_admin_password():
    """Configured or given, else asked for twice, as often as the two differ."""
    password = frappe.conf.get("admin_password")
    while not password:
        first = getpass.getpass("Set Administrator password: ")
        if first == getpass.getpass("Re-enter Administrator password: "):
            return first
        print("\nPasswords do not match")
    return password

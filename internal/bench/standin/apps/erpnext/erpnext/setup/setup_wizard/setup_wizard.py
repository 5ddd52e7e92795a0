"""ERPNext's stages of the set-up wizard."""

import frappe

from erpnext.setup.doctype.company.company import make_company
from erpnext.setup.rows import insert

ITEM_GROUPS = ("All Item Groups", "Products", "Raw Material", "Services", "Sub Assemblies", "Consumable")
MODES = {"Cheque": "Bank", "Cash": "Cash", "Credit Card": "Bank", "Wire Transfer": "Bank", "Bank Draft": "Bank"}
UNITS = ("Nos", "Unit", "Box", "Kg", "Gram", "Meter", "Litre", "Hour", "Minute", "Day", "Percent", "Set", "Pair")


def get_setup_stages(args=None):
    """With a company there is nothing to do, whatever else is missing: an interrupted wizard counts as done then."""
    if frappe.db.sql("select name from tabCompany"):
        return [("Wrapping up", "erpnext", lambda: None)]
    return [
        ("Installing presets", "erpnext", lambda: install_presets()),
        ("Setting up company", "erpnext", lambda: install_company(args)),
        ("Setting defaults", "erpnext", lambda: install_defaults(args)),
        ("Wrapping up", "erpnext", lambda: None),
    ]


def install_presets():
    """Committed with the next table that regional settings change; then they cannot be made again."""
    insert("Item Group", [{"name": name, "item_group_name": name, "is_group": int(name == ITEM_GROUPS[0]),
                           "parent_item_group": "" if name == ITEM_GROUPS[0] else ITEM_GROUPS[0]} for name in ITEM_GROUPS])  # fmt: skip
    insert("UOM", [{"name": name, "uom_name": name, "enabled": 1} for name in UNITS])
    insert("Warehouse Type", [{"name": "Transit"}])
    insert("Mode of Payment", [{"name": name, "mode_of_payment": name, "type": kind, "enabled": 1} for name, kind in MODES.items()])
    frappe.db.commit()


def install_company(args):
    start, end = str(args.fy_start_date), str(args.fy_end_date)
    year = start[:4] if start[:4] == end[:4] else f"{start[:4]}-{int(start[:4]) + 1}"
    frappe.get_doc({"doctype": "Fiscal Year", "year": year, "year_start_date": start, "year_end_date": end}).insert(ignore_permissions=True)
    make_company(args)


def install_defaults(args):
    lists = [{"name": f"Standard {word}", "price_list_name": f"Standard {word}", "enabled": 1, "currency": args.currency,
              "buying": int(word == "Buying"), "selling": int(word == "Selling")} for word in ("Buying", "Selling")]  # fmt: skip
    insert("Price List", lists)
    frappe.db.set_value("Currency", args.currency, "enabled", 1)
    settings = {"default_currency": args.currency, "default_company": args.company_name, "country": args.country}
    frappe.db.set_single_value("Global Defaults", settings)
    for key, value in (("company", args.company_name), ("currency", args.currency), ("country", args.country)):
        frappe.db.set_default(key, value)
    store = f"Stores - {args.company_abbr}"
    frappe.db.set_single_value("Stock Settings", {"item_naming_by": "Item Code", "valuation_method": "FIFO", "stock_uom": "Nos", "default_warehouse": store})
    frappe.db.set_default("default_warehouse", store)
    frappe.get_cached_doc("Company", args.company_name)

"""A company, and what it brings: accounts, cost centers, warehouses, departments, taxes. It takes most of the wizard's
time, and its rows are committed part by part."""

import json
import time

import frappe
from frappe import release
from frappe.model.company_fields import ACCOUNTS, COST_CENTERS

from erpnext.accounts.doctype.account.chart_of_accounts.chart_of_accounts import get_chart
from erpnext.setup.rows import insert

DEPARTMENTS = ("Accounts", "Marketing", "Sales", "Purchase", "Operations", "Production", "Dispatch", "Customer Service",
               "Human Resources", "Management", "Quality Management", "Research & Development", "Legal")  # fmt: skip
WAREHOUSES = ("All Warehouses", "Stores", "Work In Progress", "Finished Goods", "Goods In Transit")
TAXES = {"ST 6%": 6, "ST 4%": 4, "ST 6.25%": 6.25}
CHART_KEYS = ("root_type", "account_type", "account_number", "is_group")


def make_company(args):
    name, abbr = args.company_name, args.company_abbr
    insert("Company", [{"name": name, "company_name": name, "abbr": abbr, "default_currency": args.currency, "country": args.country,
                        "chart_of_accounts": args.chart_of_accounts, "create_chart_of_accounts_based_on": "Standard Template",
                        "enable_perpetual_inventory": 1, "lft": 1, "rgt": 2, "old_parent": ""}])  # fmt: skip
    insert("Version", [{"ref_doctype": "Company", "docname": name, "data": json.dumps({"changed": [["abbr", None, abbr], ["company_name", None, name]]})}])
    insert("Comment", [{"comment_type": "Info", "reference_doctype": "Company", "reference_name": name, "content": f"created <b>{name}</b>"}])
    frappe.get_cached_doc("Company", name)
    chart = get_chart(args.chart_of_accounts) or {}
    parts = [lambda root=root, tree=tree: make_accounts(name, abbr, {root: tree}) for root, tree in chart.items()]
    parts += [lambda part=part: part(name, abbr) for part in (make_cost_centers, make_warehouses, make_departments, make_taxes, choose_accounts)]
    start = time.monotonic()
    for i, part in enumerate(parts):
        part()
        frappe.db.commit()
        frappe.sleep_until(start, frappe.pace() * (i + 1) / len(parts))


def make_accounts(company, abbr, tree):
    """One root of the chart with all below it."""
    rows = []

    def walk(children, parent, root_type):
        for name, child in children.items():
            if name in CHART_KEYS:
                continue
            root_type = child.get("root_type") or root_type
            row = account(company, abbr, name, parent, root_type, child)
            rows.append(row)
            row["lft"] = len(rows)
            walk(child, row["name"], root_type)
            row["rgt"] = len(rows) + 1

    walk(tree, "", None)
    insert("Account", rows)


def account(company, abbr, name, parent, root_type, child):
    group = any(isinstance(value, dict) for value in child.values()) or child.get("is_group")
    number = child.get("account_number") or ""
    return {"name": " - ".join(filter(None, [number, name, abbr])), "account_name": name, "account_number": number, "company": company,
            "parent_account": parent, "is_group": int(bool(group)), "root_type": root_type, "account_type": child.get("account_type") or "",
            "report_type": "Balance Sheet" if root_type in ("Asset", "Liability", "Equity") else "Profit and Loss",
            "account_currency": frappe.get_cached_value("Company", company, "default_currency"), "old_parent": ""}  # fmt: skip


def make_cost_centers(company, abbr):
    """The root is named after the company."""
    root = f"{company} - {abbr}"
    insert("Cost Center", [{"name": root, "cost_center_name": company, "company": company, "is_group": 1, "parent_cost_center": "", "old_parent": ""},
                           {"name": f"Main - {abbr}", "cost_center_name": "Main", "company": company, "parent_cost_center": root, "old_parent": root}])  # fmt: skip
    frappe.db.set_value("Company", company, dict.fromkeys(COST_CENTERS, f"Main - {abbr}"))


def make_warehouses(company, abbr):
    root = f"{WAREHOUSES[0]} - {abbr}"
    rows = [{"name": f"{name} - {abbr}", "warehouse_name": name, "company": company} for name in WAREHOUSES]
    for i, row in enumerate(rows):
        row.update({"is_group": int(i == 0), "parent_warehouse": root if i else "", "old_parent": root if i else ""})
    insert("Warehouse", rows)


def make_departments(company, abbr):
    after = f" - {abbr}" if release.DEPARTMENTS_ABBREVIATED else ""
    rows = [{"name": "All Departments", "department_name": "All Departments", "is_group": 1}]
    rows += [{"name": name + after, "department_name": name, "company": company, "parent_department": "All Departments"} for name in DEPARTMENTS]
    insert("Department", rows)


def make_taxes(company, abbr):
    """Accounts and templates of each rate, made one by one later than the chart; they know their former parent."""
    parent = frappe.db.get_value("Account", {"company": company, "account_type": "Tax", "is_group": 1})
    if not parent:
        return
    for title, rate in TAXES.items():
        row = account(company, abbr, title, parent, "Liability", {"account_type": "Tax"})
        insert("Account", [{**row, "tax_rate": rate, "old_parent": parent}])
        name = f"{title} - {abbr}"
        common = {"title": title, "company": company, "name": name}
        insert("Item Tax Template", [common])
        insert("Item Tax Template Detail", [{"tax_type": name, "tax_rate": rate, "parent": name, "parenttype": "Item Tax Template", "parentfield": "taxes", "idx": 1}])
        for kind in ("Sales", "Purchase"):
            insert(f"{kind} Taxes and Charges Template", [{**common, "is_default": int(rate == 6)}])
            insert(f"{kind} Taxes and Charges", [{"charge_type": "On Net Total", "account_head": name, "cost_center": f"Main - {abbr}", "description": title, "rate": rate,
                                                 "parent": name, "parenttype": f"{kind} Taxes and Charges Template", "parentfield": "taxes", "idx": 1}])  # fmt: skip


def choose_accounts(company, abbr):
    """The company's defaults, and the account of the mode of payment Cash."""
    bank = frappe.db.get_value("Account", {"company": company, "account_type": "Bank", "is_group": 1})
    if bank and "default_bank_account" in ACCOUNTS:
        insert("Account", [{**account(company, abbr, "Bank Account", bank, "Asset", {"account_type": "Bank"}), "old_parent": bank}])
    found = {field: frappe.db.get_value("Account", {"company": company, "account_name": name, "is_group": 0}) for field, name in ACCOUNTS.items()}
    found["default_cash_account"] = frappe.db.get_value("Account", {"company": company, "account_type": "Cash", "is_group": 0})
    frappe.db.set_value("Company", company, {field: name for field, name in found.items() if name})
    insert("Mode of Payment Account", [{"company": company, "default_account": found["default_cash_account"], "parent": "Cash",
                                        "parenttype": "Mode of Payment", "parentfield": "accounts", "idx": 1}])  # fmt: skip

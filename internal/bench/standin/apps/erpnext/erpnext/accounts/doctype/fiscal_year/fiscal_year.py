"""Fiscal Year: a whole year that overlaps no other one."""

from datetime import date, timedelta

import frappe
from frappe.model.document import Document


class FiscalYear(Document):
    def validate(self):
        start, end = date.fromisoformat(str(self.year_start_date)), date.fromisoformat(str(self.year_end_date))
        if not int(self.is_short_year or 0) and end != start.replace(year=start.year + 1) - timedelta(days=1):
            frappe.throw("Fiscal Year End Date should be one year after Fiscal Year Start Date")
        other = frappe.db.sql(
            "select name from `tabFiscal Year` where name != %s and year_start_date <= %s and year_end_date >= %s",
            (self.name or self.year, end, start),
        )
        if other:
            frappe.throw(f"Year start date or end date is overlapping with {other[0][0]}. To avoid please set company")

    def on_update(self):
        frappe.cache.delete_value("fiscal_years")

"""Rows of one DocType in one statement: how they are made is not what is shown."""

import frappe


def insert(doctype, rows):
    """Adds rows; one without a name gets a random one."""
    meta = frappe.get_meta(doctype)
    columns = sorted({key for row in rows for key in row} - {"name"})
    now, user = frappe.now_in_site(), frappe.session.user
    values = []
    for row in rows:
        values += [row.get("name") or frappe.generate_hash(length=10), now, now, user, user]
        values += [row.get(column, meta.by_name[column].default if column in meta.by_name else None) for column in columns]
    names = ", ".join(f"`{column}`" for column in ("name", "creation", "modified", "owner", "modified_by", *columns))
    marks = ", ".join(["(" + ", ".join(["%s"] * (5 + len(columns))) + ")"] * len(rows))
    frappe.db.sql(f"insert into `tab{doctype}` ({names}) values {marks}", values)

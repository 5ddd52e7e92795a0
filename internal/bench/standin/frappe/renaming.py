# Document.rename of a user, as run_doc_method calls it.

import frappe


def rename_user(doc, method, new):
    """Refused if the user changed since it was read (check_if_latest)."""
    if method != "rename" or doc.get("doctype") != "User":
        raise frappe.PermissionError(f"The stand-in has no {method}")
    old = doc["name"]
    now = frappe.db.sql("select modified from tabUser where name = %s for update", old)
    if not now:
        raise frappe.DoesNotExistError(f"User {old} not found")
    if str(now[0][0]) != doc.get("modified"):
        raise frappe.TimestampMismatchError("Error: Document has been modified after you have opened it")
    if frappe.db.exists("User", new):
        raise frappe.ValidationError(f"User {new} already exists, select a new target to rename")
    for table, column in (("User", "name"), ("User", "email"), ("Has Role", "parent"), ("User Social Login", "parent"), ("DocShare", "user"),
                          ("DefaultValue", "parent"), ("Notification Settings", "name")):
        frappe.db.sql(f"update `tab{table}` set {column} = %s where {column} = %s", (new, old))
    frappe.db.sql("update `__Auth` set name = %s where doctype = 'User' and name = %s", (new, old))
    frappe.db.sql("update tabSessions set user = %s where user = %s", (new, old))
    frappe.clear_cache(user=old)
    frappe.db.commit()

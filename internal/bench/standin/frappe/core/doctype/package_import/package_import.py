"""Package Import: unpacks what is attached to it into the site's folder `packages`,
as the bench's user and with whatever links the archive has."""

import os
import subprocess

import frappe
from frappe.model.document import Document


class PackageImport(Document):
    """Unpacks when it is saved with `activate`."""

    def validate(self):
        if int(self.activate or 0):
            self.import_package()

    def import_package(self):
        where = {"attached_to_doctype": self.doctype, "attached_to_name": self.name}
        attached = frappe.get_all("File", where, fields=["file_name"])
        if not attached:
            frappe.throw("Please attach the package")
        if not os.path.exists(frappe.get_site_path("packages")):
            os.makedirs(frappe.get_site_path("packages"))
        archive = frappe.get_site_path("private", "files", attached[0].file_name)
        subprocess.check_output(["tar", "xzf", archive, "-C", frappe.get_site_path("packages")])
        frappe.throw("The stand-in imports nothing of what it unpacked")

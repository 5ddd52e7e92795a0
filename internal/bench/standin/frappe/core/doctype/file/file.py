"""File: content that comes with the document, as base64, goes into private/files."""

import base64
import os

import frappe
from frappe.model.document import Document


class File(Document):
    """A private file of the site."""

    def before_insert(self):
        self.file_name = os.path.basename(self.file_name)
        with open(frappe.get_site_path("private", "files", self.file_name), "wb") as f:
            f.write(base64.b64decode(self.__dict__.get("content") or ""))

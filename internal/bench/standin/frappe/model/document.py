"""Documents: rows with children, saved in Frappe's order of checks."""

import pymysql

import frappe
from frappe.model import meta as metas
from frappe.utils import global_search

CONTROLLERS = {
    "User": "frappe.core.doctype.user.user",
    "File": "frappe.core.doctype.file.file",
    "Package Import": "frappe.core.doctype.package_import.package_import",
    "Fiscal Year": "erpnext.accounts.doctype.fiscal_year.fiscal_year",
}

NAMED_BY = {"Role": "role_name", "Module Def": "module_name", "Language": "language_code", "Contact": "full_name", "Fiscal Year": "year"}


def get_doc(*args, **kwargs):
    """get_doc("User", name), get_doc("System Settings"), or get_doc({"doctype": …, …})."""
    if kwargs and not args:
        args = (kwargs,)
    first = args[0]
    if isinstance(first, Document):
        return first
    if isinstance(first, dict):
        return _controller(first["doctype"])(dict(first))
    doc = _controller(first)({"doctype": first, "name": args[1] if len(args) > 1 else first})
    doc.load_from_db(for_update=kwargs.get("for_update", False))
    return doc


def new_doc(doctype, **values):
    doc = _controller(doctype)({"doctype": doctype, "__islocal": 1, **values})
    doc._set_defaults()
    return doc


def _controller(doctype):
    if doctype in CONTROLLERS:
        return getattr(frappe.get_module(CONTROLLERS[doctype]), doctype.replace(" ", ""))
    return Document


class Document:
    """One document. Fields are attributes; child tables are lists of documents."""

    def __init__(self, values):
        self.doctype = values.pop("doctype")
        self.flags = frappe._dict()
        self._before = None
        self.name = None
        self.idx = 0
        self.docstatus = 0
        for fieldname in self.meta.children:
            self.__dict__[fieldname] = []
        self.update(values)

    def __repr__(self):
        return f"<{self.doctype.replace(' ', '')}: {self.name or 'unsaved'}>"

    def __getattr__(self, name):
        # Only fields are empty when unset; anything else is a mistake.
        if not name.startswith("__") and (self.meta.has_field(name) or name in metas.STANDARD + metas.CHILD_COLUMNS):
            return None
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    @property
    def meta(self):
        return frappe.get_meta(self.__dict__["doctype"])

    # ---- values

    def get(self, key, default=None, **_):
        value = self.__dict__.get(key)
        return default if value is None else value

    def set(self, key, value, as_value=False):
        if key in self.meta.children and not as_value:
            self.__dict__[key] = []
            self.extend(key, value or [])
        else:
            self.__dict__[key] = value

    def update(self, values):
        for key, value in values.items():
            self.set(key, value)
        return self

    def append(self, key, value=None):
        child = (
            value if isinstance(value, Document) else Document({"doctype": self.meta.children[key], **(value or {})})
        )
        child.parentfield, child.parenttype = key, self.doctype
        self.__dict__[key].append(child)
        child.idx = len(self.__dict__[key])
        return child

    def extend(self, key, values):
        for value in values:
            self.append(key, value)

    def remove(self, child):
        self.__dict__[child.parentfield].remove(child)

    def as_dict(self, **_):
        out = frappe._dict(doctype=self.doctype)
        for column in self.meta.columns:
            out[column] = getattr(self, column)
        for key in self.meta.children:
            out[key] = [child.as_dict() for child in self.get(key, [])]
        return out

    def is_new(self):
        return self.get("__islocal")

    def get_password(self, fieldname="password", raise_exception=True):
        from frappe.utils.password import get_decrypted_password

        return get_decrypted_password(self.doctype, self.name, fieldname, raise_exception)

    def get_doc_before_save(self):
        return self._before

    def has_value_changed(self, fieldname):
        return self._before is None or self._before.get(fieldname) != self.get(fieldname)

    # ---- loading

    def load_from_db(self, for_update=False):
        if self.meta.issingle:
            self.name = self.doctype
            for key, value in frappe.db.get_singles_dict(self.doctype).items():
                integer = self.meta.fieldtype(key) in ("Check", "Int")
                self.__dict__[key] = int(value or 0) if integer else value
        else:
            rows = frappe.db.get_values(self.doctype, {"name": self.name}, "*", as_dict=True, for_update=for_update)
            if not rows:
                frappe.throw(f"{self.doctype} {self.name} not found", frappe.DoesNotExistError)
            self.__dict__.update(rows[0])
        for key, child in self.meta.children.items():
            rows = frappe.get_all(
                child,
                {"parent": self.name, "parenttype": self.doctype, "parentfield": key},
                fields=["*"],
                order_by="idx asc",
            )
            self.__dict__[key] = [Document({"doctype": child, **row}) for row in rows]
        return self

    reload = load_from_db

    # ---- saving

    def insert(self, ignore_permissions=None, ignore_links=None, ignore_if_duplicate=False, ignore_mandatory=None,
               **_):  # fmt: skip
        if ignore_permissions is not None:
            self.flags.ignore_permissions = ignore_permissions
        if ignore_links is not None:
            self.flags.ignore_links = ignore_links
        self.__dict__["__islocal"] = 1
        self._check_permission("create")
        self._set_defaults()
        self._stamp()
        self._validate_links()
        self.run_method("before_insert")
        self._set_name()
        self.flags.in_insert = True
        self._run_validate(ignore_mandatory)
        if self.meta.issingle:
            self._update_single()
        else:
            self.db_insert(ignore_if_duplicate=ignore_if_duplicate)
        self._insert_children()
        self.run_method("after_insert")
        self.__dict__.pop("__islocal", None)
        self.run_method("on_update")
        global_search.update_global_search(self)
        self.flags.in_insert = False
        frappe.clear_document_cache(self.doctype, self.name)
        return self

    def save(self, ignore_permissions=None, ignore_version=None):
        if self.is_new() or not self.get("name"):
            return self.insert(ignore_permissions=ignore_permissions)
        self.flags.ignore_permissions = ignore_permissions or self.flags.ignore_permissions
        self._check_permission("write")
        self._check_if_latest()
        self._stamp()
        self._validate_links()
        self._run_validate()
        if self.meta.issingle:
            self._update_single()
        else:
            self.db_update()
        for key, child in self.meta.children.items():
            frappe.db.delete(child, {"parent": self.name, "parenttype": self.doctype, "parentfield": key})
        self._insert_children()
        self.run_method("on_update")
        global_search.update_global_search(self)
        frappe.clear_document_cache(self.doctype, self.name)
        return self

    def log_error(self, title=None, message=None):
        frappe.log_error(title, message)

    def run_method(self, method, *args, **kwargs):
        function = getattr(type(self), method, None)
        return function(self, *args, **kwargs) if function else None

    def _set_defaults(self):
        for field in self.meta.fields:
            if self.get(field.fieldname) is None and field.default is not None:
                self.__dict__[field.fieldname] = field.default

    def _stamp(self):
        self.modified = str(frappe.now_in_site())
        self.modified_by = frappe.session.user
        if self.is_new():
            self.creation, self.owner = self.modified, self.modified_by

    def _set_name(self):
        if hasattr(type(self), "autoname"):
            self.autoname()
        elif not self.name:
            key = NAMED_BY.get(self.doctype)
            self.name = self.get(key) if key else frappe.generate_hash(length=10)

    def _check_permission(self, kind):
        if frappe.session.user == "Guest" and not self.flags.ignore_permissions:
            raise frappe.PermissionError(f"No permission to {kind} {self.doctype}")

    def _check_if_latest(self):
        if self.meta.issingle:
            return
        before = get_doc(self.doctype, self.name, for_update=True)
        if str(before.modified) != str(self.modified):
            frappe.throw(
                f"Error: Document has been modified after you have opened it ({before.modified}, {self.modified})."
                " Please refresh to get the latest document.",
                frappe.TimestampMismatchError,
            )
        self._before = before

    def _validate_links(self):
        if self.flags.ignore_links:
            return
        broken = [f"{field.options}: {value}" for field, value in self._broken_links()]
        for key in self.meta.children:
            for child in self.get(key, []):
                broken += [f"Row #{child.idx}: {f.options}: {v}" for f, v in child._broken_links()]
        if broken:
            frappe.throw("Could not find {}".format(", ".join(broken)), frappe.LinkValidationError)

    def _broken_links(self):
        for field in self.meta.fields:
            value = self.get(field.fieldname)
            if field.options and value and not frappe.db.exists(field.options, value):
                yield field, value

    def _run_validate(self, ignore_mandatory=None):
        self.run_method("validate")
        missing = [f.fieldname for f in self.meta.fields if f.reqd and not self.get(f.fieldname)]
        if missing and not (ignore_mandatory or self.flags.ignore_mandatory):
            raise frappe.MandatoryError(f"[{self.doctype}, {self.name}]: {', '.join(missing)}")
        for field in self.meta.fields:
            value = self.get(field.fieldname)
            if field.fieldtype in ("Data", "Link", "Select") and len(str(value or "")) > 140:
                message = f"'{field.fieldname}' will get truncated, as max characters allowed is 140"
                raise frappe.CharacterLengthExceededError(message)
        self._save_passwords()
        self.run_method("before_save")

    def _save_passwords(self):
        """Password fields go encrypted to __Auth; the row keeps stars. An empty one takes
        its secret out of __Auth."""
        from frappe.utils.password import remove_encrypted_password, set_encrypted_password

        for field in self.meta.fields:
            value = self.get(field.fieldname)
            if field.fieldtype != "Password" or field.fieldname in (self.flags.ignore_save_passwords or ()):
                continue
            if not value:
                remove_encrypted_password(self.doctype, self.name, field.fieldname)
            elif set(value) != {"*"}:
                set_encrypted_password(self.doctype, self.name, value, field.fieldname)
                self.__dict__[field.fieldname] = "*" * len(value)

    def db_insert(self, ignore_if_duplicate=False, **_):
        if not self.name:
            self.name = frappe.generate_hash(length=10)
        if self.get("creation") is None:
            self.__dict__["__islocal"] = 1
            self._stamp()
        columns = self.meta.columns
        marks = ", ".join(["%s"] * len(columns))
        names = ", ".join(f"`{column}`" for column in columns)
        values = [self._column(column) for column in columns]
        try:
            frappe.db.sql(f"insert into `tab{self.doctype}` ({names}) values ({marks})", values)
        except pymysql.err.IntegrityError as e:
            if frappe.db.is_primary_key_violation(e):
                if ignore_if_duplicate:
                    return
                raise frappe.DuplicateEntryError(self.doctype, self.name, e)
            if frappe.db.is_unique_key_violation(e):
                raise frappe.UniqueValidationError(self.doctype, self.name, e)
            raise

    def db_update(self):
        columns = [column for column in self.meta.columns if column != "name"]
        sets = ", ".join(f"`{column}` = %s" for column in columns)
        values = [self._column(column) for column in columns]
        try:
            frappe.db.sql(f"update `tab{self.doctype}` set {sets} where name = %s", [*values, self.name])
        except pymysql.err.IntegrityError as e:
            if frappe.db.is_unique_key_violation(e):
                raise frappe.UniqueValidationError(self.doctype, self.name, e)
            raise

    def _column(self, column):
        value = getattr(self, column)
        if value is None and self.meta.fieldtype(column) in ("Check", "Int", "Float"):
            return 0
        field = self.meta.get_field(column)
        # An empty string would break the unique index on the second row.
        return None if field and field.unique and value == "" else value

    def _insert_children(self):
        for key in self.meta.children:
            for child in self.get(key, []):
                child.parent = self.name
                if child.get("creation") is None:
                    child.__dict__["__islocal"] = 1
                    child._set_defaults()
                    child._stamp()
                child.db_insert()

    def _update_single(self):
        fields = {column: getattr(self, column) for column in self.meta.columns if column not in ("name", "creation")}
        for key, value in fields.items():
            frappe.db.sql("delete from tabSingles where doctype = %s and field = %s", (self.doctype, key))
            if value is not None:
                frappe.db.sql(
                    "insert into tabSingles (doctype, field, value) values (%s, %s, %s)",
                    (self.doctype, key, str(value)),
                )

    def db_set(self, fieldname, value=None, update_modified=True, **_):
        values = fieldname if isinstance(fieldname, dict) else {fieldname: value}
        self.__dict__.update(values)
        frappe.db.set_value(self.doctype, self.name, values, update_modified=update_modified)

    def delete(self, **_):
        for child in self.meta.children.values():
            frappe.db.delete(child, {"parent": self.name, "parenttype": self.doctype})
        frappe.db.delete("__Auth", {"doctype": self.doctype, "name": self.name})
        frappe.db.delete(self.doctype, {"name": self.name})

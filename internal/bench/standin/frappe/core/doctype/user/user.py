"""User: names, roles, types and the side effects of saving one."""

import re

import frappe
from frappe import release
from frappe.model.document import Document
from frappe.utils.password import update_password as _update_password

STANDARD_USERS = ("Guest", "Administrator")
ADDRESS = re.compile(r"^[^\s@<>()\[\],;:\\\"]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$")


class User(Document):
    """Saving one touches a dozen tables, Redis and the queue, as in Frappe."""

    def __init__(self, values):
        super().__init__(values)
        self.flags.ignore_save_passwords = ["new_password"]
        self._given_password = None

    def autoname(self):
        if self.get("is_admin") or self.get("is_guest"):
            self.name = self.first_name
        else:
            self.email = self.email.strip().lower()
            self.name = self.email

    def before_insert(self):
        throttle_user_creation()

    def validate(self):
        self._given_password, self.new_password = self.new_password, ""
        self.test_password_strength()
        if self.name not in STANDARD_USERS:
            self.email = self.name
            if not ADDRESS.match(self.email):
                frappe.throw(f"{self.email} is not a valid Email Address", frappe.InvalidEmailAddressError)
        self.set_system_user()
        self.clean_name()
        self.full_name = " ".join(filter(None, [self.first_name, self.last_name]))
        if not int(self.enabled or 0) and self.name in STANDARD_USERS:
            frappe.throw(f"User {self.name} cannot be disabled")
        self.ensure_unique_roles()
        self.validate_username()
        self.remove_disabled_roles()
        self.remove_employee_role()
        if not self.time_zone:
            self.time_zone = frappe.get_system_settings("time_zone") or "Asia/Kolkata"
        if self.name not in STANDARD_USERS and not self.social_logins:
            self.append("social_logins", {"provider": "frappe", "userid": frappe.generate_hash(length=39)})

    def clean_name(self):
        """On each save names become HTML: entities stay, harmless tags are closed."""
        for field in ("first_name", "middle_name", "last_name"):
            if value := self.get(field):
                value = re.sub(r"&(?!(#[0-9]+|#x[0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);)", "&amp;", value)
                parts = re.split("(<[bi]>)", value)
                parts[::2] = [part.replace("<", "&lt;").replace(">", "&gt;") for part in parts[::2]]
                self.set(field, "".join(parts + [tag.replace("<", "</") for tag in parts[-2::-2]]))

    def test_password_strength(self):
        """Only new_password meets the policy; update_password() does not."""
        password = self._given_password
        if not password or self.flags.ignore_password_policy:
            return
        if not frappe.get_system_settings("enable_password_policy"):
            return
        own = [word.lower() for word in (self.first_name, self.last_name, (self.email or "").split("@")[0]) if word]
        weak = len(set(password)) < 5 or len(password) < 8 or password.isdigit() or password.lower().startswith("passw")
        if weak or any(len(word) > 2 and word in password.lower() for word in own):
            frappe.throw("This is similar to a commonly used password.", title="Invalid Password")

    def set_system_user(self):
        """The type follows from the roles, whatever was asked for."""
        fixed = {"Administrator": "System User", "Guest": "Website User"}.get(self.name)
        self.user_type = fixed or ("System User" if self.has_desk_access() else "Website User")

    def has_desk_access(self):
        roles = [row.role for row in self.roles]
        return bool(roles) and frappe.db.count("Role", {"desk_access": 1, "name": ("in", roles)}) > 0

    def ensure_unique_roles(self):
        seen = set()
        for row in list(self.roles):
            if not row.role or row.role in seen:
                self.roles.remove(row)
            seen.add(row.role)

    def remove_disabled_roles(self):
        disabled = set(frappe.get_all("Role", {"disabled": 1}, pluck="name"))
        self.__dict__["roles"] = [row for row in self.roles if row.role not in disabled]

    def remove_employee_role(self):
        """ERPNext's hook on validate: only who has an Employee record may have the role."""
        if "erpnext" in frappe.get_installed_apps():
            self.__dict__["roles"] = [row for row in self.roles if row.role != "Employee"]

    def validate_username(self):
        """Two users of one first name race here: the index then decides."""
        if not self.username and self.is_new() and self.first_name:
            self.username = frappe.scrub(self.first_name)
        if not self.username:
            return
        self.username = self.username.strip(" @")
        if frappe.db.get_value("User", {"username": self.username, "name": ("!=", self.name)}):
            if self.user_type == "System User":
                frappe.msgprint(f"Username {self.username} already exists")
            self.username = ""

    def append_roles(self, *roles):
        current = {row.role for row in self.roles}
        for role in roles:
            if role not in current:
                self.append("roles", {"role": role})

    def add_roles(self, *roles):
        self.append_roles(*roles)
        self.save()

    def remove_roles(self, *roles):
        self.__dict__["roles"] = [row for row in self.roles if row.role not in roles]
        self.save()

    def after_insert(self):
        if not frappe.db.exists("Notification Settings", self.name):
            settings = frappe.new_doc("Notification Settings", name=self.name, user=self.name, enabled=1)
            settings.insert(ignore_permissions=True)
        frappe.cache.delete_value("users_for_mentions")
        frappe.cache.delete_value("enabled_users")

    def on_update(self):
        self.share_with_self()
        for key in ("notification_count", "notification_config"):
            frappe.cache.hdel(key, self.name)
        frappe.clear_cache(user=self.name)
        self.send_password_notification(self._given_password)
        now = bool(frappe.flags.in_install)
        module = "frappe.core.doctype.user.user"
        frappe.enqueue(f"{module}.create_contact", user=self.name, now=now, enqueue_after_commit=True)
        if self.name not in STANDARD_USERS and not self.user_image:
            frappe.enqueue(f"{module}.update_gravatar", name=self.name, now=now, enqueue_after_commit=True)
        if self.time_zone:
            from frappe.defaults import set_default

            set_default("time_zone", self.time_zone, self.name)
        if release.USERS_HAVE_FORMATS and self.language:
            from frappe.defaults import set_default

            names = ("date_format", "time_format", "number_format", "first_day_of_the_week")
            for name, value in zip(names, frappe.db.get_value("Language", self.language, names) or ()):
                if value:
                    set_default(name, value, self.name)

    def share_with_self(self):
        where = {"user": self.name, "share_doctype": "User", "share_name": self.name}
        if self.name in STANDARD_USERS or frappe.db.get_value("DocShare", where):
            return
        frappe.new_doc("DocShare", **where, read=1, write=1, share=1).insert(ignore_permissions=True)

    def send_password_notification(self, new_password):
        if not self.flags.in_insert:
            if new_password:
                _update_password(self.name, new_password, logout_all_sessions=self.logout_all_sessions)
            return
        if self.name in STANDARD_USERS:
            return
        if new_password:
            _update_password(self.name, new_password, logout_all_sessions=self.logout_all_sessions)
        if not self.flags.no_welcome_mail and int(self.send_welcome_email or 0) and not self.flags.email_sent:
            self.send_welcome_mail_to_user()
            self.flags.email_sent = 1

    def send_welcome_mail_to_user(self):
        """Stricter than a fresh site, which has no outgoing account: the mail is queued."""
        mail = frappe.new_doc("Email Queue", message=f"Welcome {self.full_name}", reference_doctype="User")
        mail.reference_name = self.name
        mail.append("recipients", {"recipient": self.name})
        mail.insert(ignore_permissions=True)


def throttle_user_creation():
    """At most 60 new users an hour and site, Administrator and Guest included."""
    if frappe.flags.in_import or frappe.flags.in_install:
        return
    if frappe.db.get_creation_count("User", 60) > frappe.conf.get("throttle_user_limit", 60):
        frappe.throw("Throttled")


def create_contact(user, ignore_mandatory=False, **_):
    """A worker's job; the stand-in runs no worker, so there it stays in the queue."""
    names = {"first_name": user.first_name, "last_name": user.last_name, "full_name": user.full_name}
    contact = frappe.get_doc({"doctype": "Contact", "user": user.name, "email_id": user.email, **names})
    contact.append("email_ids", {"email_id": user.email, "is_primary": 1})
    contact.insert(ignore_permissions=True, ignore_mandatory=ignore_mandatory)


def update_gravatar(name, **_):
    """As create_contact."""

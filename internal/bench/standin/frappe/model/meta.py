"""What the stand-in knows of each DocType: fields, table, child tables.

A DocType not described here is an empty table with the standard columns.
"""

import frappe
from frappe.model import company_fields

TYPES = {
    "Data": "varchar(140)",
    "Link": "varchar(140)",
    "Select": "varchar(140)",
    "Password": "text",
    "Text": "text",
    "Long": "longtext",
    "Date": "date",
    "Datetime": "datetime(6)",
    "Check": "int(1) NOT NULL DEFAULT {}",
    "Int": "int(11) NOT NULL DEFAULT {}",
    "Float": "decimal(21,9) NOT NULL DEFAULT {}",
}

# field: type[=default][!required][*unique][>linked DocType]
FIELDS = {
    "User": """enabled:Check=1 email:Data! first_name:Data! middle_name:Data last_name:Data full_name:Data
        send_welcome_email:Check=1 unsubscribed:Check username:Data* language:Link>Language time_zone:Data
        user_image:Text role_profile_name:Link gender:Link phone:Data mobile_no:Data* birth_date:Date
        location:Data banner_image:Text interest:Text bio:Text mute_sounds:Check new_password:Password
        logout_all_sessions:Check=1 reset_password_key:Data last_password_reset_date:Date redirect_url:Text
        document_follow_notify:Check document_follow_frequency:Select=Daily thread_notify:Check=1
        send_me_a_copy:Check allowed_in_mentions:Check=1 email_signature:Text home_settings:Long
        simultaneous_sessions:Int=2 user_type:Link=System_User login_after:Int login_before:Int restrict_ip:Text
        bypass_restrict_ip_check_if_2fa_enabled:Check last_login:Data last_ip:Data last_active:Datetime
        last_known_versions:Text api_key:Data* api_secret:Password desk_theme:Select module_profile:Link
        last_reset_password_key_generated_on:Datetime onboarding_status:Text={} default_workspace:Link
        default_app:Select search_bar:Check=1 notifications:Check=1""",
    "Has Role": "role:Link>Role",
    "Role": """role_name:Data* home_page:Data restrict_to_domain:Link disabled:Check is_custom:Check
        desk_access:Check=1 two_factor_auth:Check""",
    "User Social Login": "provider:Data username:Data userid:Data",
    "User Email": "email_account:Link email_id:Data awaiting_password:Check",
    "Block Module": "module:Data",
    "DefaultValue": "defkey:Data defvalue:Text",
    "DocShare": """user:Link share_doctype:Link share_name:Data read:Check write:Check share:Check submit:Check
        everyone:Check notify_by_email:Check=1""",
    "Notification Settings": """enabled:Check=1 enable_email_notifications:Check=1 user:Link
        enable_email_mention:Check=1 seen:Check""",
    "Notification": "document_type:Link enabled:Check",
    "Assignment Rule": "document_type:Link disabled:Check",
    "Milestone Tracker": "document_type:Link disabled:Check",
    "Workflow": "document_type:Link is_active:Check",
    "Contact": "first_name:Data last_name:Data full_name:Data email_id:Data user:Link gender:Link",
    "Contact Email": "email_id:Data is_primary:Check",
    "Module Def": "module_name:Data* custom:Check package:Link app_name:Select restrict_to_domain:Link",
    "Patch Log": "patch:Long skipped:Check traceback:Long",
    "Installed Application": """app_name:Data app_version:Data git_branch:Data has_setup_wizard:Check
        is_setup_complete:Check""",
    "DocType": "module:Link issingle:Check istable:Check custom:Check autoname:Data engine:Select=InnoDB",
    "Email Queue": """sender:Data message:Long status:Select=Not_Sent error:Long message_id:Text reference_doctype:Link
        reference_name:Data send_after:Datetime priority:Int=1 retry:Int email_account:Link""",
    "Email Queue Recipient": "recipient:Data status:Select=Not_Sent error:Long",
    "Language": """enabled:Check=1 language_code:Data* language_name:Data flag:Data based_on:Link
        date_format:Data time_format:Data number_format:Data first_day_of_the_week:Data""",
    "Country": "country_name:Data* date_format:Data time_format:Data time_zones:Text code:Data",
    "Currency": "currency_name:Data* enabled:Check fraction:Data symbol:Data",
    "Error Log": "seen:Check method:Data error:Long reference_doctype:Link reference_name:Data trace_id:Data",
    "User Type": "is_standard:Check role:Link",
    "Scheduled Job Type": "stopped:Check method:Data frequency:Select last_execution:Datetime cron_format:Data",
    "System Settings": """country:Link>Country currency:Link>Currency language:Link!>Language time_zone:Data! enable_scheduler:Check
        enable_password_policy:Check=1 minimum_password_score:Select=2 setup_complete:Check app_name:Data
        session_expiry:Data=170:00 deny_multiple_sessions:Check""",
    "File": "file_name:Data file_url:Text is_folder:Check is_private:Check attached_to_doctype:Link attached_to_name:Data",
    "Package Import": "activate:Check force:Check attach_package:Text log:Long",
    "Website Settings": "home_page:Data disable_signup:Check app_name:Data",
    "Installed Applications": "",
    "Portal Settings": "",
    "Print Settings": "",
    "Navbar Settings": "",
    "Global Defaults": "default_company:Link default_currency:Link country:Link",
    **company_fields.FIELDS,
}

CHILDREN = {
    "User": {
        "roles": "Has Role",
        "social_logins": "User Social Login",
        "user_emails": "User Email",
        "block_modules": "Block Module",
        "defaults": "DefaultValue",
    },
    "Contact": {"email_ids": "Contact Email"},
    "Email Queue": {"recipients": "Email Queue Recipient"},
    "Installed Applications": {"installed_applications": "Installed Application"},
    **company_fields.CHILDREN,
}

SINGLES = {name for name in FIELDS if name.endswith(("Settings", "Applications", "Global Defaults"))} - {
    "Notification Settings"
}
CHILD_TABLES = {child for tables in CHILDREN.values() for child in tables.values()}
MYISAM = {"Error Log", "Data Import Log"}
SEQUENCED = {"Web Form List Column", "CRM Note", "Bisect Nodes", "Ledger Health", "Prospect Opportunity"}

STANDARD = ("name", "creation", "modified", "modified_by", "owner", "docstatus", "idx")
CHILD_COLUMNS = ("parent", "parentfield", "parenttype")


class Field:
    """One field, parsed from its line in FIELDS."""

    def __init__(self, text):
        self.fieldname, _, rest = text.partition(":")
        rest, _, self.options = rest.partition(">")
        self.unique = rest.endswith("*")
        rest = rest.rstrip("*")
        self.reqd = rest.endswith("!")
        rest = rest.rstrip("!")
        self.fieldtype, _, default = rest.partition("=")
        self.default = default.replace("_", " ") or None
        if self.fieldtype in ("Check", "Int", "Float"):
            self.default = int(default or 0)

    def sql(self):
        kind = TYPES[self.fieldtype].format(self.default)
        return f"`{self.fieldname}` {kind}" + (" UNIQUE" if self.unique else "")


class Meta:
    """Fields and table of one DocType."""

    def __init__(self, name):
        self.name = name
        self.fields = [Field(text) for text in FIELDS.get(name, "").split()]
        self.children = CHILDREN.get(name, {})
        self.issingle = name in SINGLES
        self.istable = name in CHILD_TABLES
        self.by_name = {field.fieldname: field for field in self.fields}
        self.columns = [*STANDARD, *self.by_name, *(CHILD_COLUMNS if self.istable else ())]

    def fieldtype(self, fieldname):
        field = self.by_name.get(fieldname)
        return field.fieldtype if field else None

    def get_field(self, fieldname):
        return self.by_name.get(fieldname)

    def has_field(self, fieldname):
        return fieldname in self.by_name or fieldname in self.children

    def ddl(self):
        """The statements that make its table, and its sequence if it has one."""
        lines = [
            f"`name` {'bigint(20)' if self.name in SEQUENCED else 'varchar(140)'} NOT NULL",
            "`creation` datetime(6) DEFAULT NULL",
            "`modified` datetime(6) DEFAULT NULL",
            "`modified_by` varchar(140) DEFAULT NULL",
            "`owner` varchar(140) DEFAULT NULL",
            "`docstatus` int(1) NOT NULL DEFAULT 0",
            "`idx` int(8) NOT NULL DEFAULT 0",
            *(field.sql() for field in self.fields),
        ]
        if self.istable:
            lines += [f"`{name}` varchar(140) DEFAULT NULL" for name in CHILD_COLUMNS]
            lines += ["INDEX `parent` (`parent`)"]
        else:
            lines += ["INDEX `modified` (`modified`)"]
        lines += ["PRIMARY KEY (`name`)"]
        engine = "MyISAM" if self.name in MYISAM else "InnoDB"
        made = f"create table if not exists `tab{self.name}` ({', '.join(lines)}) ENGINE={engine} ROW_FORMAT=DYNAMIC"
        statements = [made + " CHARACTER SET=utf8mb4 COLLATE=utf8mb4_unicode_ci"]
        if self.name in SEQUENCED:
            sequence = frappe.scrub(self.name) + "_id_seq"
            statements.append(f"create sequence if not exists `{sequence}` start with 1 minvalue 1 nocache nocycle")
        return statements


def get_meta(doctype):
    """The DocType's description, remembered per context and in Redis."""
    known = getattr(frappe.local, "meta", None)
    if known is None:
        return Meta(doctype)
    if doctype not in known:
        known[doctype] = Meta(doctype)
        if frappe.cache is not None:
            frappe.cache.set_value(f"doctype_meta::{doctype}", {"name": doctype})
    return known[doctype]

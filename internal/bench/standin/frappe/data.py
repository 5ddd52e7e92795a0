"""What an app brings: modules, roles, DocTypes, counts. Facts, not code."""


def _names(text):
    return [" ".join(name.split()) for name in text.split(",")]


MODULES = {
    "frappe": _names("""Core, Website, Workflow, Email, Custom, Geo, Desk, Integrations, Printing, Contacts, Social,
        Automation"""),
    "erpnext": _names("""Accounts, CRM, Buying, Projects, Selling, Setup, Manufacturing, Stock, Support, Utilities,
        Assets, Portal, Maintenance, Regional, ERPNext Integrations, Quality Management, Communication, Telephony,
        Bulk Transaction, Subcontracting, EDI"""),
    "hrms": ["HR", "Payroll"],
}

# In each app the number of importable files (so of progress frames) and of
# patches logged at installation, as recorded from the real bench.
FILES = {"frappe": 336, "erpnext": 839, "hrms": 240}
PATCHES = {"frappe": 241, "erpnext": 412, "hrms": 60}

ROLES = {
    "frappe": _names("""Administrator, Guest, All, Desk User, System Manager, Accounts Manager, Accounts User, Blogger,
        Dashboard Manager, Inbox User, Knowledge Base Contributor, Knowledge Base Editor, Maintenance Manager,
        Maintenance User, Newsletter Manager, Prepared Report User, Purchase Manager, Purchase Master Manager,
        Purchase User, Report Manager, Sales Manager, Sales Master Manager, Sales User, Script Manager, Translator,
        Website Manager, Workspace Manager"""),
    "erpnext": _names("""Academics User, Analytics, Auditor, Customer, Delivery Manager, Delivery User, Employee,
        Fleet Manager, Fulfillment User, HR Manager, HR User, Item Manager, Manufacturing Manager,
        Manufacturing User, Projects Manager, Projects User, Quality Manager, Stock Manager, Stock User, Supplier,
        Support Team"""),
    "hrms": ["Expense Approver", "Interviewer", "Leave Approver"],
}
WITHOUT_DESK = {"Guest", "All", "Customer", "Supplier"}

# In the order they are made. The first dozen matter to users and keys.
DOCTYPES = {
    "frappe": _names("""Role, Has Role, User Social Login, User Email, Block Module, Module Def, Patch Log, Language,
        Country, Currency, User Type, User, Custom Field, Property Setter, Web Form, Web Template,
        Web Form List Column, Number Card, Dashboard Chart, Dashboard, Onboarding Step, Module Onboarding, Workspace,
        Report, Page, Print Format, Web Page, Website Theme, Notification, Print Style, Client Script, Server Script,
        Access Log, Activity Log, Comment, Communication, Data Import, Data Import Log, Deleted Document, DocShare,
        Domain, Error Log, Installed Application, Module Profile, Prepared Report, Role Profile, Scheduled Job Log,
        Scheduled Job Type, Translation, User Group, User Permission, Version, View Log, Email Account, Email Queue,
        Email Queue Recipient, Email Template, Email Unsubscribe, Notification Settings, Notification Log, Event, Note,
        Tag, Tag Link, ToDo, Route History, Address, Contact, Contact Email, Gender, Salutation, OAuth Client, OAuth Bearer Token,
        Social Login Key, Webhook, Letter Head, Print Heading, Workflow, Workflow State, File,
        Package Import"""),
    "erpnext": _names("""Account, Fiscal Year Company, Mode of Payment Account, Item Tax Template,
        Item Tax Template Detail, Sales Taxes and Charges, Sales Taxes and Charges Template,
        Purchase Taxes and Charges, Purchase Taxes and Charges Template, UOM, Warehouse Type, Accounting Period, Bank, Bank Account, Bisect Nodes, Budget, Cost Center,
        Finance Book, Fiscal Year, GL Entry, Journal Entry, Ledger Health, Mode of Payment, Payment Entry,
        Payment Term, Pricing Rule, Purchase Invoice, Sales Invoice, Tax Category, Asset, Asset Category, Location,
        Purchase Order, Supplier, Supplier Quotation, Campaign, Contract, CRM Note, Lead, Opportunity,
        Prospect Opportunity, Maintenance Visit, BOM, Job Card, Operation, Work Order, Workstation, Project, Task,
        Timesheet, Quality Goal, Customer, Quotation, Sales Order, Brand, Company, Currency Exchange, Customer Group,
        Department, Designation, Employee, Holiday List, Item Group, Sales Partner, Sales Person, Supplier Group,
        Territory, Item, Item Price, Price List, Stock Entry, Warehouse, Issue"""),
    "hrms": _names("""Appraisal, Attendance, Expense Claim, Job Opening, Leave Application, Leave Type, Shift Type,
        Payroll Entry, Salary Slip, Salary Structure"""),
}

# The tables of the framework's own SQL file, there before any DocType.
FRAMEWORK = _names("""DocField, DocPerm, DocType Action, DocType Link, DocType, Series, Sessions, Singles, Auth, File,
    DefaultValue""")

LANGUAGES = """af am ar bg bn bs ca cs da da-DK de el en en-US en-GB es es-AR es-BO es-CL es-CO es-DO es-EC es-GT es-MX
    es-NI es-PE et fa fi fil fr fr-CA gu he hi hr hu id is it ja km kn ko ku lo lt lv mk ml mr ms my nb nl no pl ps pt
    pt-BR qu ro ru rw si sk sl sq sr sr-BA sv sw ta te th tr uk ur uz vi zh zh-TW""".split()

COUNTRIES = _names("""Albania, Algeria, Argentina, Armenia, Australia, Austria, Azerbaijan, Bahrain, Bangladesh, Belarus,
    Belgium, Bolivia, Bosnia and Herzegovina, Botswana, Brazil, Bulgaria, Cambodia, Cameroon, Canada, Chile, China,
    Colombia, Costa Rica, Croatia, Cuba, Cyprus, Czech Republic, Denmark, Dominican Republic, Ecuador, Egypt,
    El Salvador, Estonia, Ethiopia, Fiji, Finland, France, Georgia, Germany, Ghana, Greece, Guatemala, Honduras,
    Hong Kong, Hungary, Iceland, India, Indonesia, Iran, Iraq, Ireland, Israel, Italy, Ivory Coast, Jamaica, Japan,
    Jordan, Kazakhstan, Kenya, Kuwait, Latvia, Lebanon, Liechtenstein, Lithuania, Luxembourg, Malaysia, Maldives, Malta,
    Mauritius, Mexico, Monaco, Mongolia, Montenegro, Morocco, Mozambique, Myanmar, Namibia, Nepal, Netherlands,
    New Zealand, Nicaragua, Nigeria, Norway, Oman, Pakistan, Panama, Paraguay, Peru, Philippines, Poland, Portugal,
    Qatar, Romania, Russian Federation, Rwanda, Saudi Arabia, Senegal, Serbia, Singapore, Slovakia, Slovenia,
    South Africa, Spain, Sri Lanka, Sudan, Sweden, Switzerland, Taiwan, Thailand, Tunisia, Turkey, Uganda, Ukraine,
    United Arab Emirates, United Kingdom, United States, Uruguay, Uzbekistan, Venezuela, Vietnam, Yemen, Zambia,
    Zimbabwe""")

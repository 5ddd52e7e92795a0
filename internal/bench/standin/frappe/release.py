"""The release that this bench stands for, and all that differs by it."""

import os

BENCH = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def _written():
    """What the container's start wrote down."""
    try:
        with open(os.path.join(BENCH, "config", "standin_frappe")) as f:
            return f.read().strip()
    except FileNotFoundError:
        return "15"


VERSION = {"15": "15.72.4", "16": "16.9.0"}[_written()]
_AS_16 = VERSION.startswith("16.")

# Processes of the web server keep configurations, connections and maps of modules.
WEB_REMEMBERS = _AS_16
# filelock 3.20.4, which 16 brings, removes a lock's file on release.
LOCK_FILE_GOES = _AS_16
# Between a site and the number of its background job; RQ 2 takes no colon in an id.
JOB_SEPARATOR = "||" if _AS_16 else "::"
# Defaults are cached in a key for each parent, instead of one hash.
DEFAULTS_APART = _AS_16
# A user with a language has its formats of dates and numbers.
USERS_HAVE_FORMATS = _AS_16
# Departments that a company brings are named after its abbreviation; 15 does so later only.
DEPARTMENTS_ABBREVIATED = _AS_16
# The wizard notes in the System Settings that it is done.
SETUP_IN_SETTINGS = _AS_16
# Fields of Company with an account that the wizard chooses, besides those of both releases.
OWN_ACCOUNTS = (
    {"service_expense_account": "Cost of Goods Sold"}
    if _AS_16
    else {
        "default_bank_account": "Bank Account",
        "expenses_included_in_asset_valuation": "Expenses Included In Asset Valuation",
        "expenses_included_in_valuation": "Expenses Included In Valuation",
    }
)

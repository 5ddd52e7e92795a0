"""Small helpers: paths, conversions, time, the progress bar."""

import os
import sys

import frappe
from frappe.utils.error import get_traceback  # noqa: F401  (also found here in Frappe)


def get_bench_path():
    """The bench's folder, from where this package lies."""
    return os.environ.get("FRAPPE_BENCH_ROOT") or os.path.realpath(frappe.release.BENCH)


def get_bench_id():
    return frappe.get_conf().get("bench_id", get_bench_path().strip("/").replace("/", "-"))


def get_site_path(*parts):
    return frappe.get_site_path(*parts)


def get_sites(sites_path=None):
    """Folders with a site_config.json; links and hidden depths are not sites."""
    sites_path = sites_path or getattr(frappe.local, "sites_path", None) or "."
    sites = []
    for name in os.listdir(sites_path):
        path = os.path.join(sites_path, name)
        if os.path.isdir(path) and not os.path.islink(path) and os.path.exists(f"{path}/site_config.json"):
            sites.append(name)
    return sorted(sites)


def get_installed_apps_info():
    """Name and version of each app of the current site."""
    out = []
    for app in frappe.get_installed_apps():
        version = getattr(frappe.get_module(app), "__version__", "0.0.1")
        out.append({"app_name": app, "version": version, "branch": "UNVERSIONED"})
    return out


def random_string(length):
    return frappe.generate_hash(length=length)


def cint(value, default=0):
    try:
        return int(float(value))
    except (TypeError, ValueError):
        return default


def cstr(value):
    return "" if value is None else str(value)


def now_datetime():
    return frappe.now_in_site()


def now():
    return str(now_datetime())


def nowdate():
    return str(now_datetime().date())


today = nowdate


def get_system_timezone():
    return frappe.get_system_settings("time_zone") or "Asia/Kolkata"


def validate_email_address(email, throw=False):
    from frappe.core.doctype.user.user import ADDRESS

    if ADDRESS.match(email or ""):
        return email
    if throw:
        frappe.throw(f"{email} is not a valid Email Address", frappe.InvalidEmailAddressError)
    return ""


def update_progress_bar(txt, i, l, absolute=False):  # noqa: E741
    """One frame on standard output, begun by a carriage return."""
    if os.environ.get("CI"):
        sys.stdout.write(txt if i == 0 else "")
        sys.stdout.write(".")
        sys.stdout.flush()
        return
    col = 40
    done = float(i + 1) / l
    bar = ("=" * int(done * col)).ljust(col)
    status = f"{i} of {l}" if absolute else f"{int(done * 100)}%"
    sys.stdout.write(f"\r{txt.ljust(36)}: [{bar}] {status}")
    sys.stdout.flush()

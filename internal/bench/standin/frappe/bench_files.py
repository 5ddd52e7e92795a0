"""What lies on the bench's disk: configurations, apps.txt, apps and their hooks."""

import importlib
import json
import os

import frappe


def get_site_config(sites_path=None, site_path=None):
    """site_config.json over common_site_config.json, the environment over both."""
    from click import secho

    config = frappe._dict()
    sites_path = sites_path or getattr(frappe.local, "sites_path", None)
    site_path = site_path or getattr(frappe.local, "site_path", None)
    if sites_path:
        config.update(get_common_site_config(sites_path))
    if site_path:
        path = os.path.join(site_path, "site_config.json")
        if os.path.exists(path):
            try:
                config.update(get_file_json(path))
            except Exception as error:
                # A half-written file is only remarked on: callers see no db_name.
                secho(f"{frappe.local.site}/site_config.json is invalid", fg="red")
                print(error)
        elif frappe.local.site and not frappe.local.flags.new_site:
            raise frappe.IncorrectSitePath(f"{frappe.local.site} does not exist")
    env = os.environ.get
    config["redis_queue"] = env("FRAPPE_REDIS_QUEUE") or config.get("redis_queue") or "redis://127.0.0.1:11311"
    config["redis_cache"] = env("FRAPPE_REDIS_CACHE") or config.get("redis_cache") or "redis://127.0.0.1:13311"
    config["db_type"] = env("FRAPPE_DB_TYPE") or config.get("db_type") or "mariadb"
    config["db_socket"] = env("FRAPPE_DB_SOCKET") or config.get("db_socket")
    config["db_host"] = env("FRAPPE_DB_HOST") or config.get("db_host") or "127.0.0.1"
    config["db_port"] = env("FRAPPE_DB_PORT") or config.get("db_port") or "3306"
    return config


def get_common_site_config(sites_path=None):
    """What all sites share."""
    path = os.path.join(sites_path or getattr(frappe.local, "sites_path", None) or ".", "common_site_config.json")
    if not os.path.exists(path):
        return frappe._dict()
    return frappe._dict(get_file_json(path))


def get_conf(site=None):
    """The current site's configuration, or the common one without a site."""
    if hasattr(frappe.local, "conf"):
        return frappe.local.conf
    with frappe.init_site(site):
        return frappe.local.conf


def get_file_json(path):
    with open(path) as f:
        return json.load(f)


def as_json(obj, indent=1, **_):
    return json.dumps(obj, indent=indent, sort_keys=True, default=str)


def parse_json(value):
    return json.loads(value) if isinstance(value, str) else value


def get_site_path(*parts):
    return os.path.join(frappe.local.site_path, *parts)


def get_app_path(app, *parts):
    return os.path.join(os.path.dirname(importlib.import_module(app).__file__), *parts)


def get_attr(method):
    module, name = method.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def get_module(name):
    return importlib.import_module(name)


# ---- apps


def get_all_apps(with_internal_apps=True, sites_path=None):
    """The apps of this bench, from sites/apps.txt."""
    path = os.path.join(sites_path or getattr(frappe.local, "sites_path", None) or ".", "apps.txt")
    with open(path) as f:
        apps = [line.strip() for line in f if line.strip()]
    return ["frappe"] + [app for app in apps if app != "frappe"]


def get_installed_apps(*, _ensure_on_bench=False):
    """The apps of the current site; empty before its database has any."""
    if not getattr(frappe.local, "db", None):
        return []
    apps = json.loads(frappe.local.db.get_global("installed_apps") or "[]")
    if _ensure_on_bench:
        apps = [app for app in apps if app in get_all_apps()]
    frappe.cache.set_value("app_hooks", {"installed": apps})
    return apps


def get_hooks(hook=None, default=None, app_name=None):
    """An app's hooks.py; an app that is not there is reported, then raised."""
    hooks = frappe._dict()
    for app in [app_name] if app_name else get_installed_apps():
        try:
            module = get_module(f"{app}.hooks")
        except ImportError as e:
            print(f'Could not find app "{app}": \n{e}')
            raise
        for key, value in vars(module).items():
            if not key.startswith("_"):
                _append_hook(hooks, key, value)
    return hooks.get(hook, default or []) if hook else hooks


def _append_hook(hooks, key, value):
    """Dicts are merged, anything else is appended to a list."""
    if isinstance(value, dict):
        for inner, each in value.items():
            _append_hook(hooks.setdefault(key, {}), inner, each)
    else:
        hooks.setdefault(key, []).extend(value if isinstance(value, list) else [value])


def get_module_list(app):
    """The modules of an app, which become its Module Defs."""
    from .data import MODULES

    return MODULES[app]

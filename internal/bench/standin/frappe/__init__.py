"""A stand-in for Frappe 15 or 16, as much of it as Nexus' runner and tests touch.

Names, arguments, messages and leftovers are those of the real framework; the
work behind them is not. Where the real thing is awkward, so is this.
"""

import os
import secrets
import threading
import time
from datetime import datetime
from zoneinfo import ZoneInfo

from . import exceptions, release
from .exceptions import *  # noqa: F403  (frappe.ValidationError and the like)

__title__ = "Frappe Framework"
_dev_server = False

__version__ = release.VERSION


class _dict(dict):
    """A dict whose items are attributes too; a missing one is None."""

    __slots__ = ()
    __getattr__ = dict.get
    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __getstate__(self):
        return self

    def __setstate__(self, state):
        self.update(state)

    def update(self, *args, **kwargs):
        super().update(*args, **kwargs)
        return self

    def copy(self):
        return _dict(self)


class _Local(threading.local):
    """Per-thread state, emptied by destroy()."""


local = _Local()
cache = None  # the Redis client, once init() has run

_PROXIED = ("db", "conf", "flags", "session", "form_dict", "request", "response", "message_log", "job", "lang", "user")


def __getattr__(name):
    # The real ones are proxies onto the thread's state; unbound, they are false.
    if name in _PROXIED:
        return getattr(local, name, None)
    raise AttributeError(f"module 'frappe' has no attribute {name!r}")


# ---- life of a context


def init(site, sites_path=".", new_site=False, force=False):
    """Reads the site's configuration; the database is first touched by a query."""
    if getattr(local, "initialised", None) and not force:
        return
    local.flags = _dict(new_site=new_site, in_install_db=False, in_import=False, in_test=False, mute_messages=False)
    local.error_log, local.message_log, local.debug_log = [], [], []
    local.site = site
    local.sites_path = sites_path
    local.site_path = os.path.join(sites_path, site)
    local.request = local.job = None
    local.response = _dict(docs=[])
    local.form_dict = _dict()
    local.conf = _dict(get_site_config())
    local.lang = local.conf.lang or "en"
    local.user = None
    local.session = _dict()
    local.cache = {}
    local.meta = {}
    _connect_cache()
    local.initialised = True


def _connect_cache():
    global cache
    if cache is None:
        from .utils.redis_wrapper import RedisWrapper

        cache = RedisWrapper.from_url(local.conf.redis_cache)


def connect(site=None, db_name=None, set_admin_as_user=True):
    """Prepares the connection as the site's own user; it opens lazily."""
    from .database import get_db

    if site:
        init(site)
    assert db_name or local.conf.db_name, "site must be fully initialized, db_name missing"
    assert local.conf.db_password, "site must be fully initialized, db_password missing"
    name = local.conf.db_name or db_name
    local.db = get_db(
        socket=local.conf.db_socket,
        host=local.conf.db_host,
        port=local.conf.db_port,
        user=name,
        password=local.conf.db_password,
        cur_db_name=name,
    )
    if set_admin_as_user:
        set_user("Administrator")


def destroy():
    """Closes the database connection and forgets the site."""
    if getattr(local, "db", None):
        local.db.close()
    local.__dict__.clear()


class init_site:
    """Context of one site, or of none ('') for the common configuration."""

    def __init__(self, site=None):
        self.site = site or ""

    def __enter__(self):
        init(self.site)
        return local

    def __exit__(self, *exc):
        destroy()


def set_user(username):
    """Acts as that user from now on."""
    local.session.user = username
    local.session.sid = username
    local.session.data = _dict()
    local.cache = {}
    local.user = None


# ---- users


def get_roles(username=None):
    """A user's roles, the automatic ones included."""
    user = username or local.session.user
    if user == "Administrator":
        return local.db.sql_list("select name from tabRole")
    roles = local.db.sql_list("select role from `tabHas Role` where parenttype='User' and parent=%s", user)
    cache.hset("roles", user, roles)
    return roles + ["All", "Guest"]


def only_for(roles, message=False):
    wanted = {roles} if isinstance(roles, str) else set(roles)
    if local.session.user != "Administrator" and not wanted & set(get_roles()):
        raise exceptions.PermissionError("This action is only allowed for {}".format(", ".join(sorted(wanted))))


# ---- messages


def throw(msg, exc=exceptions.ValidationError, title=None, **_):
    local.message_log.append(_dict(message=str(msg), title=title))
    raise exc(msg)


def msgprint(msg, title=None, **_):
    local.message_log.append(_dict(message=str(msg), title=title))


def _(msg, *_args, **_kwargs):
    return msg


def bold(text):
    return f"<strong>{text}</strong>"


def clear_last_message():
    if local.message_log:
        local.message_log.pop()


def get_traceback(with_context=False):
    from .utils.error import get_traceback as inner

    return inner(with_context)


def log_error(title=None, message=None, **_):
    """One row of Error Log, a MyISAM table: it survives the rollback."""
    if not getattr(local, "db", None):
        return
    try:
        get_doc({"doctype": "Error Log", "method": title, "error": message or get_traceback()}).db_insert()
    except Exception:
        pass  # the log must never hide what it tells of


def logger(name="frappe", **_):
    from .utils.logger import get_logger

    return get_logger(name)


# ---- caches


def setup_module_map(include_all_apps=True):
    """Fills the site's map of modules. A site without one is cold: see web.py."""
    if not include_all_apps and not cache.get_value("installed_app_modules"):
        cache.set_value("installed_app_modules", {app: get_module_list(app) for app in get_installed_apps()})


def clear_cache(user=None, doctype=None):
    """Empties the site's part of Redis (by KEYS, as the real one does)."""
    if user:
        from .defaults import forget_defaults

        for key in ("bootinfo", "user_recent", "roles", "user_doc", "lang", "user_permissions",
                    "home_page", "linked_with", "desktop_icons", "portal_menu_items"):  # fmt: skip
            cache.hdel(key, user)
        forget_defaults(user)
    elif doctype:
        cache.delete_value(f"doctype_meta::{doctype}")
    else:
        cache.delete_keys("")
    local.cache = {}
    local.meta = {}


def clear_document_cache(doctype, name=None):
    cache.delete_value(f"document_cache::{doctype}::{name or doctype}")


def generate_hash(txt=None, length=56):
    return secrets.token_hex((length + 1) // 2)[:length]


def scrub(text):
    return str(text).replace(" ", "_").replace("-", "_").lower()


# ---- documents


def get_doc(*args, **kwargs):
    from .model.document import get_doc as inner

    return inner(*args, **kwargs)


def get_single(doctype):
    return get_doc(doctype, doctype)


def new_doc(doctype, *, as_dict=False, **kwargs):
    from .model.document import new_doc as inner

    return inner(doctype, **kwargs)


def get_cached_doc(doctype, name=None):
    doc = get_doc(doctype, name or doctype)
    cache.set_value(f"document_cache::{doctype}::{doc.name}", doc.as_dict())
    return doc


def is_setup_complete():
    """Whether the wizard's part of each app that has one is done."""
    return all(get_all("Installed Application", {"has_setup_wizard": 1}, pluck="is_setup_complete"))


def publish_realtime(event=None, message=None, **_):
    """Tells browsers; nobody listens here."""
    cache.publish("events", as_json({"event": event, "message": message}))


def get_system_settings(key):
    return local.db.get_single_value("System Settings", key)


def get_meta(doctype, cached=True):
    from .model.meta import get_meta as inner

    return inner(doctype)


def is_table(doctype):
    """Whether a DocType is the rows of others; the list is remembered in Redis."""
    return doctype in cache.get_value("is_table", lambda: get_all("DocType", {"istable": 1}, pluck="name"))


def get_all(doctype, *args, **kwargs):
    from .model.query import get_all as inner

    return inner(doctype, *args, **kwargs)


def get_list(doctype, *args, **kwargs):
    if local.session.user == "Guest":
        raise exceptions.PermissionError(doctype)
    return get_all(doctype, *args, **kwargs)


def get_value(*args, **kwargs):
    return local.db.get_value(*args, **kwargs)


get_cached_value = get_value


def delete_doc(doctype, name, **kwargs):
    get_doc(doctype, name).delete(**kwargs)


def enqueue(*args, **kwargs):
    from .utils.background_jobs import enqueue as inner

    return inner(*args, **kwargs)


def pace():
    """Seconds one new-site is stretched to: the test's dial."""
    value = os.environ.get("STANDIN_PACE") or get_conf().get("standin_pace")
    return float(value) if value is not None else 0.6


def now_in_site():
    """The wall clock in the site's time zone; a fresh site lives in Kolkata."""
    zone = "Asia/Kolkata"
    if getattr(local, "db", None) and not local.flags.in_install:
        try:
            zone = get_system_settings("time_zone") or zone
        except Exception:
            pass  # tables not made yet
    return datetime.now(ZoneInfo(zone)).replace(tzinfo=None)


def sleep_until(start, seconds):
    """Stretches work to its pace without making slow work slower."""
    left = start + seconds - time.monotonic()
    if left > 0:
        time.sleep(left)


def pause(share=0.02):
    """Between two steps, so that a kill can land there too."""
    time.sleep(pace() * share)


from .bench_files import (  # noqa: E402,F401  (they use what stands above)
    as_json,
    get_all_apps,
    get_app_path,
    get_attr,
    get_common_site_config,
    get_conf,
    get_file_json,
    get_hooks,
    get_installed_apps,
    get_module,
    get_module_list,
    get_site_config,
    get_site_path,
    parse_json,
)

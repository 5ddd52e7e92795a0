"""The bench's web server: sites by Host, as gunicorn serves them in the real container.

As Frappe 15, each request reads the site's configuration anew and asks its
database; nothing is kept in memory, so a site made, renamed or dropped shows at
once. As Frappe 16, it keeps what Memory tells.
"""

import itertools
import json
import os
import secrets
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import frappe
from frappe import release
from frappe.renaming import rename_user
from frappe.utils.password import check_password, get_decrypted_password

# Who may read a list; a DocType not named here needs a System Manager.
READERS = {
    "User": {"System Manager"},
    "ToDo": {"All"},
    "Customer": {"Sales User", "Sales Manager", "Sales Master Manager", "Stock User", "Accounts User"},
    "Item": {"Item Manager", "Stock User", "Stock Manager", "Sales User", "Purchase User", "Manufacturing User"},
    "Company": {"Accounts User", "Accounts Manager", "Sales User", "Purchase User", "Stock User", "Employee"},
    "Sales Invoice": {"Accounts User", "Accounts Manager"},
}

WRITABLE = ("User", "File", "Package Import")

# Fields of permission level 1: only a System Manager's values count, anybody
# else's are dropped without a word.
LEVEL_ONE = {"roles", "role_profile_name", "user_type", "user_emails", "block_modules", "api_key", "api_secret",
             "restrict_ip", "login_after", "login_before"}  # fmt: skip


class Memory:
    """What the processes of Frappe 16's web server keep between requests: a site's
    configuration for a minute, and on a thread the connection to a database that did
    not exist any more. Such a thread fails each site whose map of modules is not in
    Redis, until it serves one whose map is. A HUP starts new processes."""

    TTL, THREADS = 60, 4

    def __init__(self):
        self.requests = itertools.count()
        self.clear()

    def clear(self, *_):
        self.configs, self.poisoned = {}, set()

    def keep(self, read):
        """Wraps the function that reads a configuration, and keeps that of a site."""

        def config():
            at, kept = self.configs.get(frappe.local.site, (0, None))
            if kept and time.monotonic() - at < self.TTL:
                return kept
            now = read()
            if now.get("db_name"):
                self.configs[frappe.local.site] = (time.monotonic(), now)
            return now

        return config

    def enter(self, thread):
        """Maps the site's modules, as every request does first."""
        warm = frappe.cache.get_value("installed_app_modules")
        if thread in self.poisoned and not warm:
            raise Answer(500, {"exc_type": "OperationalError", "exception": "the connection of another site"})
        self.poisoned.discard(thread)


MEMORY = Memory()


class Answer(Exception):
    """Ends a request with this status and body."""

    def __init__(self, status, body, cookies=()):
        super().__init__(status)
        self.status, self.body, self.cookies = status, body, cookies


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "gunicorn"
    sys_version = ""

    def do_GET(self):
        try:
            self._serve()
        except Answer as answer:
            self._send(answer)
        except Exception as e:
            self._send(self._failure(e))
        finally:
            frappe.destroy()

    do_POST = do_HEAD = do_PUT = do_DELETE = do_GET

    def log_message(self, format, *args):
        pass  # an access log would hold tokens passed as parameters

    # ---- one request

    def _serve(self):
        self.path_only = unquote(urlsplit(self.path).path)
        self.is_api = self.path_only.startswith("/api/")
        self.form = self._read_form()
        host = self.headers.get("Host") or ""
        if "/" in host:
            raise Answer(400, "<h1>Bad Request</h1>")
        # The header may hold any path below sites/, or above: so does the real one's.
        site = self.headers.get("X-Frappe-Site-Name") or host.split(":", 1)[0]
        frappe.init(site=site, force=True)
        if not frappe.conf.db_name:
            raise Answer(404, not_found("The requested URL was not found on the server."))
        self._connect()
        if frappe.conf.maintenance_mode and not frappe.conf.allow_reads_during_maintenance:
            raise frappe.SessionStopped("Session Stopped")
        frappe.set_user("Guest")
        self._authenticate()
        self._route()

    def _connect(self):
        """Every request reaches the database."""
        thread = next(MEMORY.requests) % MEMORY.THREADS
        if release.WEB_REMEMBERS:
            MEMORY.enter(thread)
        frappe.connect(set_admin_as_user=False)
        try:
            frappe.get_system_settings("session_expiry")
            if release.WEB_REMEMBERS:
                frappe.setup_module_map(include_all_apps=False)
        except Exception:
            MEMORY.poisoned.add(thread)
            raise

    def _read_form(self):
        form = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if body and "json" in (self.headers.get("Content-Type") or ""):
            form.update(json.loads(body))
        elif body:
            form.update({key: values[-1] for key, values in parse_qs(body.decode()).items()})
        return form

    def _authenticate(self):
        """A cookie first, then the key; a header that names nobody is 401."""
        cookies = dict(
            part.strip().split("=", 1) for part in (self.headers.get("Cookie") or "").split(";") if "=" in part
        )
        sid = cookies.get("sid")
        if sid and sid != "Guest":
            user = frappe.db.sql("select user from tabSessions where sid = %s", sid)
            if user:
                frappe.set_user(user[0][0])
        parts = (self.headers.get("Authorization") or "").split(" ")
        if len(parts) != 2:
            return
        if parts[0].lower() == "token" and parts[1].count(":") == 1 and frappe.session.user == "Guest":
            self._token(*parts[1].split(":"))
        if frappe.session.user == "Guest":
            raise frappe.AuthenticationError

    def _token(self, key, secret):
        user = frappe.db.get_value("User", {"api_key": key, "enabled": 1}, "name") if key else None
        if user and secrets.compare_digest(get_decrypted_password("User", user, "api_secret"), secret):
            frappe.set_user(user)

    def _route(self):
        if self.path_only.startswith("/api/method/"):
            self._method(self.path_only.removeprefix("/api/method/").strip("/"))
        if self.path_only.startswith("/api/resource/"):
            self._resource(self.path_only.removeprefix("/api/resource/").strip("/"))
        if self.is_api:
            raise frappe.DoesNotExistError(self.path_only)
        if self.path_only in ("/", "/login", "/app"):
            raise Answer(200, page("Login", "Login to Frappe"))
        raise Answer(404, page("Not Found", "The resource you are looking for is not available"))

    def _method(self, name):
        if name in ("ping", "frappe.ping"):
            raise Answer(200, {"message": "pong"})
        if name == "login":
            self._login(self.form.get("usr", ""), self.form.get("pwd", ""))
        if name == "frappe.auth.get_logged_user":
            self._refuse_guest("Function frappe.auth.get_logged_user is not whitelisted.")
            raise Answer(200, {"message": frappe.session.user})
        if name == "frappe.client.insert":
            self._refuse_guest("Function frappe.client.insert is not whitelisted.")
            if self.command not in ("POST", "PUT"):
                raise frappe.PermissionError("Not permitted")
            doc = self.form.get("doc")
            raise Answer(200, {"message": self._insert(json.loads(doc) if isinstance(doc, str) else doc)})
        if name == "run_doc_method":
            self._refuse_guest("Function run_doc_method is not whitelisted.")
            doc = json.loads(self.form["docs"])
            self._may("write", "User", doc["name"])
            rename_user(doc, self.form["method"], self.form["args"]["name"])
            raise Answer(200, {"message": None})
        raise frappe.ValidationError(f"Failed to get method for command {name}")

    def _login(self, user, password):
        name = frappe.db.get_value("User", {"name": user, "enabled": 1}, "name")
        try:
            check_password(name or "", password)
        except frappe.AuthenticationError:
            raise Answer(401, {"message": "Invalid login credentials", "exc_type": "AuthenticationError"})
        sid = secrets.token_hex(28)
        frappe.db.sql(
            "insert into tabSessions (user, sid, sessiondata, lastupdate, status) values (%s, %s, '{}', now(6), 'Active')",
            (name, sid),
        )
        frappe.db.commit()
        frappe.cache.hset("session", sid, {"user": name})
        full_name = frappe.db.get_value("User", name, "full_name")
        body = {"message": "Logged In", "home_page": "/app", "full_name": full_name}
        raise Answer(200, body, [f"sid={sid}; HttpOnly; Path=/; SameSite=Lax"])

    def _resource(self, rest):
        """GET lists a DocType or reads one document; users can be written too."""
        doctype, _, name = rest.partition("/")
        if not frappe.db.exists("DocType", doctype):
            raise frappe.DoesNotExistError(f"DocType {doctype} not found")
        self._refuse_guest(f"No permission for {doctype}")
        if self.command == "POST":
            raise Answer(200, {"data": self._insert({**self.form, "doctype": doctype})})
        if self.command in ("PUT", "DELETE"):
            self._write(doctype, name)
        if name:
            self._may("read", doctype, name)
            raise Answer(200, {"data": frappe.get_doc(doctype, name).as_dict()})
        readers = READERS.get(doctype, {"System Manager"})
        if frappe.session.user != "Administrator" and not readers & set(frappe.get_roles()):
            raise frappe.PermissionError(f"No permission for {doctype}")
        raise Answer(200, {"data": self._list(doctype)})

    def _list(self, doctype):
        fields = [self._field(doctype, field) for field in json.loads(self.form.get("fields", '["name"]'))]
        limit = self.form.get("limit_page_length") or self.form.get("limit")
        limit = 20 if limit is None else int(limit)  # 0: all
        filters = self._filters()
        if isinstance(filters, list):
            filters = [self._of_child(doctype, row) for row in filters]
        return frappe.get_all(doctype, filters, fields, limit=limit)

    def _field(self, doctype, field):
        """`tabChild`.field is read from the first row of the document that the filters name."""
        if not field.startswith("`tab"):
            return field
        child, _, column = field.removeprefix("`tab").partition("`.")
        if child not in frappe.get_meta(doctype).children.values() or not column.isidentifier():
            raise frappe.PermissionError(f"No permission for {child}")
        wanted = [f"{f[1]} = {frappe.db.escape(f[3])}" for f in self._filters() or [] if f[0] == child and f[2] == "="]
        where = " and ".join([f"parent = `tab{doctype}`.name", *wanted])
        return f"(select {column} from `tab{child}` where {where} limit 1) as {column}"

    def _of_child(self, doctype, row):
        """[child, field, operator, value] asks for the documents that have such a row."""
        if len(row) < 4 or row[0] == doctype:
            return row
        parents = frappe.get_all(row[0], [row[1:]], pluck="parent")
        return ["name", "in", parents]

    def _filters(self):
        return json.loads(self.form.get("filters", "null"))

    # ---- writing users

    def _may(self, what, doctype, name=None):
        """System Managers may do everything; other users may read and write their own document, which is shared with them."""
        own = doctype == "User" and name == frappe.session.user and what in ("read", "write")
        if frappe.session.user == "Administrator" or own:
            return
        readers = READERS.get(doctype, {"System Manager"}) if what == "read" else {"System Manager"}
        if not readers & set(frappe.get_roles()) or (doctype == "User" and name in ("Administrator", "Guest")):
            why = f"User <strong>{frappe.session.user}</strong> does not have doctype access via role permission for"
            raise frappe.PermissionError(f"{why} document <strong>{doctype}</strong>")

    def _insert(self, values):
        if values.get("doctype") not in WRITABLE:
            raise frappe.PermissionError(f"The stand-in inserts no {values.get('doctype')}")
        self._may("create", values["doctype"])
        doc = frappe.get_doc(values).insert()
        frappe.db.commit()
        return doc.as_dict()

    def _write(self, doctype, name):
        if doctype not in WRITABLE:
            raise frappe.PermissionError(f"The stand-in writes no {doctype}")
        self._may("write" if self.command == "PUT" else "delete", doctype, name)
        doc = frappe.get_doc(doctype, name)
        if self.command == "DELETE":
            self._delete(doc)
        manager = {"System Manager", "Administrator"} & {*frappe.get_roles(), frappe.session.user}
        dropped = {"doctype", "name"} | (set() if manager else LEVEL_ONE)
        doc.update({key: value for key, value in self.form.items() if key not in dropped})
        doc.save()
        frappe.db.commit()
        raise Answer(200, {"data": doc.as_dict()})

    def _delete(self, doc):
        """Slow, as the real one: it looks for links in every table."""
        if doc.name in ("Administrator", "Guest"):
            frappe.throw(f"User {doc.name} cannot be deleted")
        time.sleep(min(frappe.pace(), 3))
        for child, where in (
            ("DocShare", {"user": doc.name}),
            ("Notification Settings", {"name": doc.name}),
            ("DefaultValue", {"parent": doc.name}),
        ):
            frappe.db.delete(child, where)
        frappe.db.sql("delete from tabSessions where user = %s", doc.name)
        doc.delete()
        frappe.clear_cache(user=doc.name)
        frappe.db.commit()
        raise Answer(202, {"data": "ok"})

    def _refuse_guest(self, why):
        if frappe.session.user == "Guest":
            raise frappe.PermissionError(why)

    # ---- answers

    def _failure(self, e):
        if isinstance(e, frappe.NotFound):
            return Answer(404, not_found(e.args[0]))
        status = getattr(e, "http_status_code", 500)
        if getattr(self, "is_api", False) and not (self.headers.get("Accept") or "").startswith("text"):
            body = {"exc_type": type(e).__name__}
            said = getattr(frappe.local, "message_log", None) or ([{"message": str(e)}] if str(e) else [])
            if said:
                body["_server_messages"] = json.dumps([json.dumps({"indicator": "red", **each}) for each in said])
            if status != 404:
                # A fresh site shows tracebacks to everybody.
                body["exception"] = f"{type(e).__module__}.{type(e).__name__}: {e}"
                body["exc"] = json.dumps([frappe.get_traceback()])
            return Answer(status, body)
        if status == 503:
            text = "The system is being updated. Please refresh again after a few moments."
            return Answer(503, page("Updating", text))
        return Answer(status, page("Server Error", "" if status == 500 else str(e)))

    def _send(self, answer):
        if isinstance(answer.body, str):
            body, kind = answer.body.encode(), "text/html; charset=utf-8"
        else:
            body, kind = json.dumps(answer.body, default=str).encode(), "application/json"
        self.send_response(answer.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for cookie in answer.cookies:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def not_found(text):
    return f"<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>{text}</p>\n"


def page(title, text):
    return (
        f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>\n"
    )


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def reap(*_):
    """Reaps the orphans of killed runners, which become children of process 1; gunicorn does the same."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main():
    host, _, port = os.environ.get("STANDIN_HTTP", "127.0.0.1:18000").rpartition(":")
    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, MEMORY.clear)
    if release.WEB_REMEMBERS:
        frappe.get_site_config = MEMORY.keep(frappe.get_site_config)
    Server((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()

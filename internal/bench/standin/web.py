"""The bench's web server: sites by Host, as gunicorn serves them in the real container.

Each request reads the site's configuration anew and asks its database; nothing
is kept in memory, so a site made, renamed or dropped shows at once.
"""

import json
import os
import secrets
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import frappe
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
        frappe.connect(set_admin_as_user=False)
        if frappe.conf.maintenance_mode and not frappe.conf.allow_reads_during_maintenance:
            raise frappe.SessionStopped("Session Stopped")
        frappe.set_user("Guest")
        frappe.get_system_settings("session_expiry")  # every request reaches the database
        self._authenticate()
        self._route()

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
        """GET lists a DocType or reads one document; nothing is written here."""
        doctype, _, name = rest.partition("/")
        if not frappe.db.exists("DocType", doctype):
            raise frappe.DoesNotExistError(f"DocType {doctype} not found")
        self._refuse_guest(f"No permission for {doctype}")
        readers = READERS.get(doctype, set()) | {"System Manager"} if doctype == "User" else READERS.get(doctype)
        if frappe.session.user != "Administrator" and not (readers or {"System Manager"}) & set(frappe.get_roles()):
            raise frappe.PermissionError(f"No permission for {doctype}")
        if name:
            raise Answer(200, {"data": frappe.get_doc(doctype, name).as_dict()})
        fields = json.loads(self.form.get("fields", '["name"]'))
        limit = int(self.form.get("limit_page_length") or self.form.get("limit") or 20)
        raise Answer(200, {"data": frappe.get_all(doctype, self._filters(), fields, limit=limit)})

    def _filters(self):
        return json.loads(self.form.get("filters", "null"))

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
            if str(e):
                message = json.dumps({"message": str(e), "indicator": "red"})
                body["_server_messages"] = json.dumps([message])
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
    """Process 1 inherits what a killed runner leaves behind; gunicorn reaps it too."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main():
    host, _, port = os.environ.get("STANDIN_HTTP", "127.0.0.1:18000").rpartition(":")
    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()

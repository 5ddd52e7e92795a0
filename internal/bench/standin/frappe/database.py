"""MariaDB as Frappe sees it: one lazy connection of the site's own user."""

import re

import pymysql
from pymysql.constants import ER, FIELD_TYPE
from pymysql.converters import conversions

import frappe
from frappe.model import query as sqlbuilder

DDL = re.compile(r"^\s*(alter|drop|create|begin|truncate)\b", re.I)
LOGGED = re.compile(r"^\s*(alter|drop|create|truncate|rename)\b", re.I)
WRITES = re.compile(r"^\s*(update|insert|delete)\b", re.I)


def get_db(socket=None, host=None, user=None, password=None, port=None, cur_db_name=None):
    return MariaDBDatabase(host, user, password, port, cur_db_name, socket)


class CallbackManager:
    """Functions to run once, around a commit or rollback."""

    def __init__(self):
        self._functions = []

    def add(self, function):
        self._functions.append(function)

    def run(self):
        while self._functions:
            self._functions.pop(0)()

    def reset(self):
        self._functions.clear()


class MariaDBDatabase:
    """One connection; every method may raise pymysql's own errors."""

    db_type = "mariadb"
    ProgrammingError = pymysql.ProgrammingError
    OperationalError = pymysql.OperationalError
    InternalError = pymysql.InternalError
    IntegrityError = pymysql.IntegrityError
    InterfaceError = pymysql.InterfaceError
    DataError = pymysql.DataError
    SQLError = pymysql.ProgrammingError

    def __init__(self, host=None, user=None, password=None, port=None, cur_db_name=None, socket=None):
        self.host, self.user, self.password = host, user, password
        self.port, self.cur_db_name, self.socket = port, cur_db_name, socket
        self._conn = None
        self._cursor = None
        self.transaction_writes = 0
        self.logger = frappe.logger("database")
        self.value_cache = {}
        self.before_commit, self.after_commit = CallbackManager(), CallbackManager()
        self.before_rollback, self.after_rollback = CallbackManager(), CallbackManager()

    # ---- connection

    def connect(self):
        settings = {
            "user": self.user,
            "password": self.password or "",
            "charset": "utf8mb4",
            "use_unicode": True,
            "conv": {**conversions, FIELD_TYPE.NEWDECIMAL: float},
        }
        if self.cur_db_name:
            settings["database"] = self.cur_db_name
        if self.socket:
            settings["unix_socket"] = self.socket
        else:
            settings["host"] = self.host
            settings["port"] = int(self.port or 3306)
        self._conn = pymysql.connect(**settings)
        self._cursor = self._conn.cursor()

    def close(self):
        if self._conn:
            self._conn.close()
        self._conn = self._cursor = None

    def use(self, db_name):
        self._conn.select_db(db_name)
        self.cur_db_name = db_name

    # ---- statements

    def sql(self, query, values=(), *, as_dict=0, as_list=0, pluck=False, debug=0, run=True, auto_commit=0, **_):
        """Runs one statement; rows come as tuples unless asked otherwise."""
        query = str(query).strip()
        if not run:
            return query
        if not self._conn:
            self.connect()
        self._check_implicit_commit(query)
        if auto_commit:
            self.commit()
        if values == () or values is None:
            values = None
        elif not isinstance(values, (tuple, dict, list)):
            values = (values,)
        try:
            self._cursor.execute(query, values)
        except pymysql.Error as e:
            if self.is_deadlocked(e):
                raise frappe.QueryDeadlockError(e) from e
            if self.is_timedout(e):
                raise frappe.QueryTimeoutError(e) from e
            raise
        if LOGGED.match(query):
            # The password of a CREATE USER lands in the log as well.
            self.logger.warning("DDL Query made to DB:\n%s", query)
        if auto_commit:
            self.commit()
        if not self._cursor.description:
            return ()
        rows = self._cursor.fetchall()
        if pluck:
            return [row[0] for row in rows]
        if as_dict:
            names = [column[0] for column in self._cursor.description]
            return [frappe._dict(zip(names, row)) for row in rows]
        return [list(row) for row in rows] if as_list else rows

    def sql_list(self, query, values=(), **kwargs):
        return self.sql(query, values, pluck=True, **kwargs)

    def sql_ddl(self, query, debug=False):
        """DDL commits by itself in MariaDB, so what is open is committed first."""
        self.commit()
        self.sql(query)

    def _check_implicit_commit(self, query):
        if self.transaction_writes and DDL.match(query):
            raise frappe.ImplicitCommitError("This statement can cause implicit commit", query)
        if WRITES.match(query):
            self.transaction_writes += 1

    def begin(self, *, read_only=False):
        self.sql("START TRANSACTION" + (" READ ONLY" if read_only else ""))

    def commit(self):
        self.before_commit.run()
        if self._conn:
            self._conn.commit()
        self.transaction_writes = 0
        self.before_rollback.reset()
        self.after_rollback.reset()
        self.after_commit.run()

    def rollback(self, *, save_point=None):
        if save_point:
            self.sql(f"rollback to savepoint {save_point}")
            return
        self.before_rollback.run()
        if self._conn:
            self._conn.rollback()
        self.transaction_writes = 0
        self.before_commit.reset()
        self.after_commit.reset()
        self.after_rollback.run()

    def savepoint(self, save_point):
        self.sql(f"savepoint {save_point}")

    def release_savepoint(self, save_point):
        self.sql(f"release savepoint {save_point}")

    def escape(self, s, percent=True):
        if not self._conn:
            self.connect()
        text = self._conn.escape_string(str(s))
        return "'" + (text.replace("%", "%%") if percent else text) + "'"

    # ---- reading

    def get_value(self, doctype, filters=None, fieldname="name", as_dict=False, order_by=None, for_update=False,
                  pluck=False, **_):  # fmt: skip
        rows = self.get_values(doctype, filters, fieldname, as_dict, order_by, for_update, limit=1)
        if not rows:
            return None
        row = rows[0]
        return row if as_dict or len(row) > 1 else row[0]

    def get_values(self, doctype, filters=None, fieldname="name", as_dict=False, order_by=None, for_update=False,
                   limit=None, **_):  # fmt: skip
        fields = [fieldname] if isinstance(fieldname, str) else list(fieldname)
        if frappe.get_meta(doctype).issingle:
            single = self.get_singles_dict(doctype)
            found = [single.get(field) for field in fields]
            return [frappe._dict(zip(fields, found)) if as_dict else tuple(found)]
        if filters is not None and not isinstance(filters, (dict, list)):
            filters = {"name": filters}
        query, values = sqlbuilder.select(doctype, fields, filters, order_by, limit, for_update)
        return self.sql(query, values, as_dict=as_dict)

    def get_all(self, *args, **kwargs):
        return frappe.get_all(*args, **kwargs)

    def get_list(self, *args, **kwargs):
        return frappe.get_list(*args, **kwargs)

    def exists(self, dt, dn=None, cache=False):
        """The name of a row that is there, or None."""
        if isinstance(dt, dict):
            dt, dn = dt["doctype"], {k: v for k, v in dt.items() if k != "doctype"}
        if dn is not None and dt == dn:
            return dt  # a single always exists
        return self.get_value(dt, dn, "name", order_by=None)

    def count(self, dt, filters=None, **_):
        where, values = sqlbuilder.where(filters)
        return self.sql(f"select count(*) from `{sqlbuilder.table(dt)}`{where}", values)[0][0]

    def get_creation_count(self, doctype, minutes):
        from datetime import timedelta

        since = frappe.now_in_site() - timedelta(minutes=minutes)
        return self.sql(f"select count(name) from `tab{doctype}` where creation >= %s", since)[0][0]

    def get_tables(self, cached=True):
        tables = self.sql_list("select table_name from information_schema.tables where table_schema = database()")
        if cached:
            frappe.cache.set_value("db_tables", tables)
        return tables

    def table_exists(self, doctype, cached=True):
        return f"tab{doctype}" in self.get_tables(cached=cached)

    has_table = table_exists

    def get_table_columns(self, doctype):
        columns = self.sql_list(f"show columns from `tab{doctype}`")
        frappe.cache.hset("table_columns", f"tab{doctype}", columns)
        return columns

    def has_column(self, doctype, column):
        return column in self.get_table_columns(doctype)

    def get_database_size(self):
        return self.sql(
            "select sum(data_length + index_length) / 1024 / 1024 from information_schema.tables"
            " where table_schema = database()"
        )[0][0]

    # ---- single documents

    def get_singles_dict(self, doctype, **_):
        return frappe._dict(self.sql("select field, value from tabSingles where doctype = %s", doctype))

    def get_single_value(self, doctype, fieldname, cache=True):
        row = self.sql("select value from tabSingles where doctype = %s and field = %s", (doctype, fieldname))
        value = row[0][0] if row else None
        if frappe.get_meta(doctype).fieldtype(fieldname) in ("Check", "Int"):
            return int(value or 0)
        return value

    get_singles_value = get_single_value

    def set_single_value(self, doctype, fieldname, value=None, *, modified=None, modified_by=None,
                         update_modified=True, debug=False):  # fmt: skip
        """Sets fields of a single document; nothing is checked."""
        fields = dict(fieldname) if isinstance(fieldname, dict) else {fieldname: value}
        if update_modified:
            fields.setdefault("modified", modified or str(frappe.now_in_site()))
            fields.setdefault("modified_by", modified_by or frappe.session.user)
        for key, val in fields.items():
            val = int(val) if isinstance(val, bool) else val
            self.sql("delete from tabSingles where doctype = %s and field = %s", (doctype, key))
            self.sql("insert into tabSingles (doctype, field, value) values (%s, %s, %s)", (doctype, key, val))
        frappe.clear_document_cache(doctype, doctype)

    # ---- writing

    def set_value(self, dt, dn, field, val=None, modified=None, modified_by=None, update_modified=True, **_):
        if frappe.get_meta(dt).issingle:
            return self.set_single_value(dt, field, val, modified=modified, update_modified=update_modified)
        fields = dict(field) if isinstance(field, dict) else {field: val}
        if update_modified:
            fields["modified"] = modified or frappe.now_in_site()
            fields["modified_by"] = modified_by or frappe.session.user
        where, values = sqlbuilder.where(dn if isinstance(dn, dict) else {"name": dn})
        sets = ", ".join(f"`{name}` = %s" for name in fields)
        self.sql(f"update `tab{dt}` set {sets}{where}", [*fields.values(), *values])
        frappe.clear_document_cache(dt, dn if isinstance(dn, str) else None)

    def delete(self, doctype, filters=None, **_):
        where, values = sqlbuilder.where(filters)
        return self.sql(f"delete from `{sqlbuilder.table(doctype)}`{where}", values)

    def set_global(self, key, val, user="__global"):
        from frappe.defaults import set_default

        set_default(key, val, user)

    def get_global(self, key, user="__global"):
        return self.get_default(key, user)

    def get_default(self, key, parent="__default"):
        from frappe.defaults import get_defaults_for

        return get_defaults_for(parent).get(key)

    def set_default(self, key, val, parent="__default", parenttype=None):
        from frappe.defaults import set_default

        set_default(key, val, parent, parenttype)

    # ---- what an error means

    @staticmethod
    def _code(e):
        return e.args[0] if isinstance(e, pymysql.Error) and e.args else None

    def is_deadlocked(self, e):
        return self._code(e) == ER.LOCK_DEADLOCK

    def is_timedout(self, e):
        return self._code(e) == ER.LOCK_WAIT_TIMEOUT

    def is_table_missing(self, e):
        return self._code(e) == ER.NO_SUCH_TABLE

    def is_missing_column(self, e):
        return self._code(e) == ER.BAD_FIELD_ERROR

    def is_access_denied(self, e):
        return self._code(e) == ER.ACCESS_DENIED_ERROR

    def is_duplicate_entry(self, e):
        return self._code(e) == ER.DUP_ENTRY

    def is_primary_key_violation(self, e):
        return self.is_duplicate_entry(e) and "PRIMARY" in str(e.args[1])

    def is_unique_key_violation(self, e):
        return self.is_duplicate_entry(e) and not self.is_primary_key_violation(e)

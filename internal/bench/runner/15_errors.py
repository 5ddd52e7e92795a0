# Classification of every error from outside, in one place: transient, for an operator
# to mend, or caused by the request. It serves our own connections to MariaDB, Frappe's
# in a child, the output of Frappe's commands, and the disk.
#
# A row is a code and a message; the part after "; " tells what mends it. An error that
# is in no table is internal: our own fault.

BUSY = ("unavailable", "The database server cannot be used just now.")
LOCKED = ("unavailable", "Another session holds a lock in the database.")
SET_UP = ("unavailable", "The worker's database account is not set up; run: nexus bench init")
DATABASE_FULL = ("unavailable", "The disk of the database is full; make room on it.")
DATABASE_READ_ONLY = ("unavailable", "The database server takes no writes; switch its read_only off, or set db_host to the server that is written to.")
POLICY = ("unavailable", "The database's password policy refuses the passwords of sites, which come as hashes of 24 random letters and digits; set strict_password_validation = OFF.")
TLS = ("unavailable", "The database server and the bench do not agree on TLS; set db_ssl_ca, db_ssl_cert and db_ssl_key in common_site_config.json as Frappe needs them.")
SOCKET_ONLY = ("unavailable", "The database lets this user in by its socket only, not by a password; give it a password for the bench's address, or name another administrator.")
NOT_FROM_HERE = ("unavailable", "The database does not let this user in from the bench's address; allow it, or name another user.")
BLOCKED = ("unavailable", "The database server has blocked the bench's address after errors; run on it: mariadb-admin flush-hosts")
NO_MEMORY = ("unavailable", "The database server is out of memory; give it more, or let it use less.")
TEMPORARY = ("unavailable", "The database server lost its temporary files; give it a folder of its own for them, by its setting tmpdir.")
FULL = ("unavailable", "The bench's disk is full.")
REDIS = ("unavailable", "The bench's Redis cannot be reached.")
DATA = ("invalid", "Frappe refused the data.")
THEFT = "who has the workers' database account? Change NEXUS_DB_PASSWORD, then run: nexus bench init"

# MariaDB's numbers; below 2000 and above 3000 the server's, between them the client's.
NUMBERS = {
    31001: ("invalid", "The database's name is not one of ours."),
    31002: ("conflict", "The database was not made by this job; it was left alone."),
    31005: ("internal", "The site's database has its last password already; it cannot be changed any more."),  # a retry makes the site anew
    31006: ("internal", "Another client made or changed the site's database while it was made; " + THEFT),
    31007: ("fenced", "The site was removed meanwhile."),  # the worker takes a new token, if the job is still its own
    31008: ("internal", "The site's new database holds a trigger, event, routine or view of its own, or another account has rights on it, so it is not used; " + THEFT),
    31009: ("internal", "The database is no template that can be copied."),
    31010: ("internal", "The copy of the template's database is not complete."),
    **dict.fromkeys((31004, 1044, 1045, 1049, 1142, 1305, 1318, 1370), SET_UP),
    # The server is away, shutting down or at its limits, or has closed the connection.
    **dict.fromkeys((0, 1040, 1053, 1077, 1078, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1317, 1927, 1969, 2001, 2002, 2003, 2004, 2005, 2006, 2012, 2013, 2055, 5014), BUSY),
    # 1020: from MariaDB 11.6 on, a transaction met a row that is newer than its snapshot.
    **dict.fromkeys((31003, 1020, 1099, 1100, 1205, 1213, 1223), LOCKED),
    **dict.fromkeys((1037, 1038, 1041, 1135), NO_MEMORY),
    **dict.fromkeys((1021, 1114, 1878), DATABASE_FULL),
    **dict.fromkeys((1036, 1792, 1836), DATABASE_READ_ONLY),
    **dict.fromkeys((1819,), POLICY),
    **dict.fromkeys((2026, 3159), TLS),
    **dict.fromkeys((1698, 1524, 2059), SOCKET_ONLY),
    1129: BLOCKED,
    1130: NOT_FROM_HERE,
    **dict.fromkeys((1264, 1366, 1406), DATA),
}
# Numbers that errors of several kinds share; the text tells them apart. "errno: 28" and
# "error 28" are the operating system's numbers inside MariaDB's texts.
SHARED = [
    (re.compile(r"read[-_]only"), DATABASE_READ_ONLY, (1290,)),
    (re.compile(r"strict[-_]password[-_]validation"), POLICY, (1290,)),
    (re.compile(r"\bSSL\b|certificate", re.I), TLS, (2002, 2003, 2006, 2013)),
    (re.compile(r"(?i)err(?:no:?|or|code:) (?:28|122|135|136)\b"), DATABASE_FULL, None),
    (re.compile(r"(?i)err(?:no:?|or|code:) 30\b"), DATABASE_READ_ONLY, None),
    (re.compile(r"(?i)err(?:no:?|or|code:) 12\b"), NO_MEMORY, None),
    (re.compile(r"(?i)#sql-temptable.*\berr(?:no:?|or|code:) 2\b"), TEMPORARY, None),
]

ERRNOS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL),
    errno.EROFS: ("unavailable", "The bench's disk takes no writes; mount it for writing."),
    errno.EIO: ("unavailable", "The bench's disk reports errors; look at its host."),
    **dict.fromkeys((errno.EACCES, errno.EPERM), ("unavailable", "The bench's user has no permission on one of its files; restore it by chown, chmod or chattr -i, as the error's detail names it.")),
    errno.ENOTEMPTY: ("unavailable", "Something writes into a folder while it is removed."),
    errno.ESTALE: ("unavailable", "The bench's disk was away; mount it again."),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), ("unavailable", "The bench has too many open files; raise its limit.")),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), ("unavailable", "The bench has no room for another process just now; give it more memory or processes.")),
}

# Frappe's exceptions, by name (frappe/exceptions.py). Those against the data derive from
# the first two; PASSING are the others that derive from them, where a retry may succeed.
REFUSED = ("ValidationError", "DataError")
PASSING = {
    **dict.fromkeys(("QueryTimeoutError", "QueryDeadlockError", "DocumentLockedError", "LockTimeoutError"), LOCKED),
    "InReadOnlyMode": DATABASE_READ_ONLY,
    **dict.fromkeys(("TimestampMismatchError", "UniqueValidationError", "QueueOverloaded", "RateLimitExceededError", "SessionBootFailed", "DoesNotExistError",
                     "PageDoesNotExistError", "ImplicitCommitError"), None),
}


DRIVERS = ("pymysql", "MySQLdb")


def by_number(number, said):
    """The row of a MariaDB error; None if it is in no table."""
    for pattern, row, numbers in SHARED:
        if (number in numbers if numbers else number not in NUMBERS) and pattern.search(said):
            return row
    return NUMBERS.get(number)


def by_exception(e):
    """The row of an exception, by MariaDB's number (which Frappe may have wrapped), the
    operating system's, or its class; None if it is in no table."""
    inner = e.args[0] if e.args and isinstance(e.args[0], Exception) else e
    kinds = [kind.__name__ for kind in type(e).__mro__]
    if isinstance(e, OSError):
        return ERRNOS.get(e.errno)
    if isinstance(e, MemoryError):
        return ERRNOS[errno.ENOMEM]
    if type(e).__module__.split(".")[0] == "redis":
        return REDIS
    if type(inner).__module__.split(".")[0] in DRIVERS and inner.args and isinstance(inner.args[0], int):
        found = by_number(inner.args[0], " ".join(map(str, inner.args)))
        if found and found is not SET_UP:  # SET_UP is about the worker's account; this was a site's
            return found
    if kinds[0] in PASSING:
        return PASSING[kinds[0]]
    return DATA if set(REFUSED).intersection(kinds) else None


# An error number as Frappe's driver shows it, "(2013, '…", or as MariaDB's client
# program does, which new-site calls for the first tables: "ERROR 2013 (HY000)".
SQL_ERROR = re.compile(r"(?:\(|ERROR )(\d{4})(?=, | \()([^\n]*)")
SYSTEM_ERROR = re.compile(r"\[Errno (\d+)\]")


def by_text(tail):
    """The row of a failed command, by the end of its output; only outages count. An
    error about data is our own fault, since we chose the command's arguments."""
    found = [by_number(int(number), said) for number, said in SQL_ERROR.findall(tail)]
    found += [ERRNOS.get(int(number)) for number in SYSTEM_ERROR.findall(tail)]
    found += [REDIS] if re.search(r"\bredis\.exceptions\.\w*(?:Connection|Timeout|Busy|ReadOnly|OutOfMemory)\w*", tail) else []
    found += [FULL] if "No space left on device" in tail else []
    found += [row for name, row in PASSING.items() if row and re.search(rf"\b{name}\b", tail)]
    return next((row for row in found if row and row[0] == "unavailable" and row is not SET_UP), None)


def refused_as(row, detail):
    """Makes a Refusal of a row; None makes an internal one."""
    code, message = row or ("internal", "The bench failed with an unexpected error.")
    return Refusal(code, message, detail)


def database_error(e):
    """The Refusal for an error of our own connection to MariaDB."""
    number = e.args[0] if e.args and isinstance(e.args[0], int) else 0
    said = str(e.args[1]) if len(e.args) > 1 else str(e)
    refused = refused_as(by_number(number, said), f"MariaDB {number}: {said}")
    refused.number = number
    if number == 31007:
        refused.seen = int(re.search(r"\d*$", said).group() or 0) - 1
        if not plausible(refused.seen):  # whoever has the account may have written any number
            refused.code, refused.seen = "conflict", None
    return refused


def cli_error(command, code, tail):
    """The Refusal for a failed command of Frappe's."""
    row = by_text(tail) or ("internal", f"The bench could not finish {command}.")
    return refused_as(row, f"{command}: exit {code}\n{tail}")


def api_error(e):
    """The Refusal for an exception of Frappe in this process."""
    row = by_exception(e)
    detail = "".join(traceback.format_exception_only(type(e), e))
    return refused_as(row, detail if row else detail + "".join(traceback.format_tb(e.__traceback__)))


def refusal(e):
    """The Refusal for any exception. Call it in the except block: it takes the traceback."""
    return e if isinstance(e, Refusal) else refused_as(by_exception(e), traceback.format_exc())

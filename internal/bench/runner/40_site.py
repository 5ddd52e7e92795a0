# A site on disk: its folder, its config with our marker, and its intent, which names the
# owner of a half-made site until the marker does.


KEPT_PACKAGES = "packages.before-nexus"


TEMPLATES, STANDBY = ROOMS = ("templates", "standby")  # folders of sites/.nexus with sites that are not served


def site_of(op):
    return Site(op.site, op.room)


class Site:
    """A site that is served, or one in a room. Its name is its path below sites/, as
    Frappe takes it."""

    def __init__(self, name, room=""):
        if not SITE_NAME.match(name) or ".." in name:
            raise Refusal("invalid", f"{name} is not a name for a site.")
        self.room, self.short = room, name
        self.name = f".nexus/{room}/{name}" if room else name
        self.key = f"{room}:{name}" if room else name  # in names of files; no served site has a colon
        self.folder = os.path.join(SITES, self.name)
        self.config_path = os.path.join(self.folder, "site_config.json")
        self.intent_path = os.path.join(OURS, "intent", self.key)

    def exists(self):
        return os.path.lexists(self.folder)

    def config(self):
        return read_if_readable(self.config_path) or (read_if_readable(self.resting_path) if self.room else {})

    @property
    def resting_path(self):
        """The config of a frozen template or a shelved standby. Frappe does not find it, so
        that no request reaches the site, whatever its headers say."""
        return os.path.join(self.folder, "resting_config.json")

    def frozen(self):
        return bool(self.room) and not os.path.lexists(self.config_path) and os.path.lexists(self.resting_path)

    def marker(self):
        marker = self.config().get("nexus")
        return marker if isinstance(marker, dict) else {}

    def intent(self):
        return read_object(self.intent_path)

    def restore_permissions(self, op):
        """Restores the permissions that the bench's user needs on folder and config, if
        the register gives the database to this owner."""
        if self.exists() and not (os.access(self.folder, os.R_OK | os.W_OK | os.X_OK) and os.access(self.config_path, os.R_OK | os.W_OK)) and registered(op):
            for path in (self.folder, self.config_path):
                with contextlib.suppress(OSError):
                    open_up(path)

    def is_whole(self, op):
        return self.marker().get("job") == op.owner and self.config().get("db_name") == op.db

    def belongs_to(self, op):
        """Whether marker, config or intent name this owner's database; only then may an
        operation touch the folder. The tenant's code may have written marker and config:
        if only one of them is this owner's, the register decides."""
        config, marker, intent = self.config(), self.marker(), self.intent()
        if self.room and not config and not intent:  # lost: the name is derived from the job (nexus.TemplateName in Go)
            return self.short.endswith("-" + op.owner[:8])
        if marker:
            return self.is_whole(op) or (marker.get("job") == op.owner or config.get("db_name") == op.db) and registered(op)
        if config.get("db_name"):
            # The database of a site that we made is its job's; another maker's proves nothing.
            return config["db_name"] == op.db and bool(DB_NAME.match(op.db)) and (our_database(op, op.db) or {}).get("job") in (None, op.owner)
        # A claim moves a whole folder to the site's name, with its config.
        return intent.get("job") == op.owner and intent.get("db") == op.db and "standby" not in intent

    def ours(self, op, to_close=False):
        """Returns the site if it is this owner's and complete; else not_found or conflict.
        To close it, it need not be complete."""
        self.restore_permissions(op)
        lost = to_close and not self.marker() and self.config().get("db_name") == op.db and not self.intent() and registered(op)
        if not self.exists() or not self.marker() and not lost:
            if self.exists() and not self.belongs_to(op):
                raise foreign(self)
            raise Refusal("not_found", f"There is no site {self.name} on this bench.")
        if not lost and not self.belongs_to(op):
            raise foreign(self)
        if not to_close and not self.is_whole(op):
            raise Refusal("conflict", f"The config of {self.name} was changed: its db_name or the job of its mark is not the register's. Put site_config.json back, and try again.", op.db)
        return self

    def close_packages(self):
        """Makes `packages` a link to /dev/null. Frappe unpacks a Package Import's archive
        there, with the links in it, and a Package Release writes to any path that its
        documents name; both fail if it is no folder, or is outside the site's
        (package_import.py; package_release.py, validate). No form or call of Frappe
        removes the link. A folder that was there is kept, for the site's return."""
        path, kept = os.path.join(self.folder, "packages"), os.path.join(self.folder, KEPT_PACKAGES)
        if os.path.islink(path) and os.readlink(path) == os.devnull:
            return
        while os.path.lexists(kept):
            kept += ".1"
        if os.path.lexists(path):
            os.rename(path, kept)
        os.symlink(os.devnull, path)
        sync_dir(self.folder)

    def open_packages(self):
        path, kept = os.path.join(self.folder, "packages"), os.path.join(self.folder, KEPT_PACKAGES)
        if os.path.islink(path) and os.readlink(path) == os.devnull:
            os.remove(path)
        if os.path.lexists(kept) and not os.path.lexists(path):
            os.rename(kept, path)
        sync_dir(self.folder)

    def config_mode(self):
        try:
            return os.stat(self.config_path).st_mode & 0o777
        except OSError:
            return 0o644

    @contextlib.contextmanager
    def locked_config(self):
        """Holds Frappe's own lock of the config (synchronization.py, filelock) and yields
        the config; changes to it are written at the end. Where Frappe removes the lock's
        file, so do we: an adopted site is given back as it was."""
        path = os.path.join(self.folder, "locks", "site_config.lock")
        clear_way(os.path.dirname(path), path)
        fd = flock(path, 30, mode=0o644)
        if fd is None:
            raise Refusal("unavailable", "Frappe holds the site's config too long.")
        os.set_inheritable(fd, False)
        try:
            config = self.config()
            if os.path.exists(self.config_path) and not config.get("db_name"):
                raise Refusal("unavailable", "The site's config cannot be read just now.", self.config_path)
            before = json.dumps(config, sort_keys=True)
            yield config
            if json.dumps(config, sort_keys=True) != before:
                write_json(self.config_path, config, self.config_mode())
        finally:
            if lock_file_goes():
                remove(path)
            os.close(fd)

    def query(self, sql, *values):
        """Returns the rows of a query as the site's own database user."""
        import pymysql

        try:
            db = connect(*credentials(self.config()))
        except Refusal as e:
            if e.number in NOT_ITS_OWN:
                e.message = f"The config of {self.name} does not open its database; put db_name and db_password back."
                e.code = "unavailable"
            raise
        try:
            with db.cursor() as cursor:
                cursor.execute(sql, values)
                return cursor.fetchall()
        except pymysql.err.MySQLError as e:
            raise database_error(e) from None
        finally:
            db.close()

    def apps(self):
        rows = self.query("SELECT defvalue FROM `tabDefaultValue` WHERE parent = '__global' AND defkey = 'installed_apps'")
        return json.loads(rows[0]["defvalue"]) if rows else []


NOT_ITS_OWN = (1044, 1045, 1049)  # MariaDB's numbers for a wrong user, password or database


def credentials(config):
    """A config's database user, password and name; unavailable if one is missing."""
    out = config.get("db_user") or config.get("db_name"), config.get("db_password"), config.get("db_name")
    if all(text(value) and value.isprintable() for value in out):
        return out
    e = Refusal("unavailable", "The site's config lacks its database's name or password; put them back.")
    e.number = NOT_ITS_OWN[0]
    raise e


@contextlib.contextmanager
def site_cursor(site):
    """Yields a cursor of the site's own database user."""
    import pymysql

    db = connect(*credentials(site.config()))
    try:
        with db.cursor() as cursor:
            yield cursor
    except pymysql.err.MySQLError as e:
        raise database_error(e) from None
    finally:
        db.close()


def opens_database(config):
    """Whether a config's password opens the database that it names."""
    try:
        connect(*credentials(config)).close()
    except Refusal as e:
        if e.number in NOT_ITS_OWN:
            return False
        raise
    return True


def registered(op):
    """Whether the register gives the database to this owner."""
    return (our_database(op, op.db) or {}).get("job") == op.owner


def clear_way(folder, path):
    """Makes the folder of a lock's file, and removes what is in the way of either."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        os.remove(folder)
    os.makedirs(folder, exist_ok=True)
    open_up(folder)
    if os.path.lexists(path):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            remove(path)
        else:
            open_up(path)


def give_encryption_key(config):
    """Returns the key that the site encrypts secrets with, and makes one if there is
    none. Frappe would make it at the first secret, but writes the config in place: a kill
    or a full disk in that moment leaves an empty config."""
    from cryptography.fernet import Fernet

    return config.setdefault("encryption_key", Fernet.generate_key().decode())


def foreign(site):
    return Refusal("conflict", f"The site {site.name} on this bench was not made by this job; it was left alone.")


def unmarked(site):
    return Refusal("conflict", f"The config of {site.name} has lost its mark; nothing was made anew.", site.config_path)


def own_intent(op, site):
    """Returns the intent; empty if there is none. Refuses a name that is somebody else's."""
    intent = site.intent()
    if site.exists() and not site.belongs_to(op) or intent and intent.get("job") != op.owner:
        raise foreign(site)
    return intent


def write_intent(op, site):
    """Writes the intent to disk before anything is made, if the name is free or this
    job's already. Returns True if the site is complete already."""
    with site_lock(site.key):
        intent = own_intent(op, site)
        if "nexus" in site.config():
            return True
        if site.exists() and not intent:  # a half-made site has an intent, so this one was complete
            raise unmarked(site)
        our_folder("intent")
        write_json(site.intent_path, {"job": op.owner, "db": op.db})
        return False


def frappe_cli(op, *arguments, lines=()):
    """Runs a slow command of Frappe through its bench_helper (the bench program would
    log the arguments), with answers to its prompts on standard input. Returns the exit
    code and the end of the output; progress is reported meanwhile."""
    process = subprocess.Popen([PYTHON, "-m", "frappe.utils.bench_helper", "frappe", *arguments], cwd=SITES,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               close_fds=False, preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("".join(line + "\n" for line in lines).encode())
        process.stdin.close()
    tail, count = b"", 0
    while True:
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        tail, count = (tail + chunk)[-65536:], count + len(chunk)
        if count > op.output_limit:
            kill_tree(process.pid)
            raise Refusal("internal", "The command wrote more than it may.", tail.decode(errors="replace"))
        report(op, chunk)
    return process.wait(), tail.decode(errors="replace")


BAR = re.compile(rb"\r?([^\r\n:]{3,80}?)\s*:\s*\[[= ]*\]\s*(\d+)%")


def report(op, chunk):
    found = BAR.findall(chunk[-512:])  # only the last bar counts; the pattern takes quadratic time
    if found:
        op.tell({"event": "progress", "message": found[-1][0].decode(errors="replace").strip(), "percent": int(found[-1][1])})

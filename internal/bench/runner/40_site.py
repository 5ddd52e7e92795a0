# A site on disk: folder, config with our marker, and the intent that says whose
# half-made site this is before there is a marker.


KEPT_PACKAGES = "packages.before-nexus"


class Site:
    def __init__(self, name):
        if not SITE_NAME.match(name) or ".." in name:
            raise Refusal("invalid", f"{name} is not a name for a site.")
        self.name = name
        self.folder = os.path.join(SITES, name)
        self.config_path = os.path.join(self.folder, "site_config.json")
        self.intent_path = os.path.join(OURS, "intent", name)

    def exists(self):
        return os.path.lexists(self.folder)

    def config(self):
        return read_object(self.config_path)

    def marker(self):
        marker = self.config().get("nexus")
        return marker if isinstance(marker, dict) else {}

    def intent(self):
        return read_object(self.intent_path)

    def belongs_to(self, op):
        """Marker, config or intent must name this owner's database: only then may
        an operation touch the folder."""
        config, marker, intent = self.config(), self.marker(), self.intent()
        if marker:
            return marker.get("job") == op.owner and config.get("db_name") == op.db
        if config.get("db_name"):
            # Names of ours are derived from the job; another maker's say nothing.
            return config["db_name"] == op.db and bool(DB_NAME.match(op.db))
        return intent.get("job") == op.owner and intent.get("db") == op.db

    def ours(self, op):
        """The complete site of this owner; not_found or conflict if it is not."""
        if not self.exists() or not self.marker():
            if self.exists() and not self.belongs_to(op):
                raise foreign(self)
            raise Refusal("not_found", f"There is no site {self.name} on this bench.")
        if not self.belongs_to(op):
            raise foreign(self)
        return self

    def close_packages(self):
        """Frappe unpacks a Package Import's archive, links and all, below `packages`,
        and what a Package Release exports goes to any path that its documents name.
        Both stop at a folder that is none, and outside the site's
        (package_import.py; package_release.py, validate). Nothing that a user of the
        site can do removes it. A folder of packages is kept, for who gets the site back."""
        path, kept = os.path.join(self.folder, "packages"), os.path.join(self.folder, KEPT_PACKAGES)
        if os.path.islink(path) and os.readlink(path) == os.devnull:
            return
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
        """Frappe's own lock on the config, by the file it uses (synchronization.py,
        filelock); yields the config, to be written whole. As of Frappe 16 the file goes
        with the lock: an adopted site is given back as it was."""
        path = os.path.join(self.folder, "locks", "site_config.lock")
        os.makedirs(os.path.dirname(path), exist_ok=True)
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
            if frappe_major() >= 16:
                remove(path)
            os.close(fd)

    def query(self, sql, *values):
        """Asks the site's database as the site's own user."""
        import pymysql

        config = self.config()
        db = connect(config.get("db_user") or config["db_name"], config["db_password"], config["db_name"])
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


def give_encryption_key(config):
    """The key that the site seals secrets with; made if there is none. Frappe would do
    so at the first secret, but writes the config in place: who is killed meanwhile, or
    has no room on the disk, leaves one that holds nothing at all."""
    from cryptography.fernet import Fernet

    return config.setdefault("encryption_key", Fernet.generate_key().decode())


def foreign(site):
    return Refusal("conflict", f"The site {site.name} on this bench was not made by this job; it was left alone.")


def declare(op, site):
    """Intent before deed: on disk before anything is made, and only if the name
    is free or this job's already. True if the site is complete already."""
    with site_lock(site.name):
        intent = site.intent()
        if site.exists() and not site.belongs_to(op):
            raise foreign(site)
        if intent and intent.get("job") != op.owner:
            raise foreign(site)
        if site.marker():
            return True
        our_folder("intent")
        write_json(site.intent_path, {"job": op.owner, "db": op.db})
        return False


def frappe_cli(op, *arguments, lines=()):
    """Runs a slow public command as Frappe's own helper does (the bench program
    would write its arguments to a log), with answers to its prompts on standard
    input. Answers with exit code and the tail of its output; progress is told."""
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
    found = BAR.findall(chunk[-512:])  # only the last one counts, and a long line costs its square
    if found:
        op.tell({"event": "progress", "message": found[-1][0].decode(errors="replace").strip(), "percent": int(found[-1][1])})

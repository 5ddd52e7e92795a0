# What differs between the releases of Frappe, in one place.

SUPPORTED = ("15", "16")


def frappe_major():
    """The release; 0 if Frappe cannot be imported: what is left of a site can be
    removed all the same."""
    try:
        import frappe
    except ImportError:
        return 0
    return int(frappe.__version__.split(".")[0])


def config_kept():
    """Seconds for which a process of the web server may serve a site by a config that
    was replaced: 15 reads it at each request, 16 keeps it (frappe/config.py: site_cache
    of 60 s in each process)."""
    return 60 if frappe_major() >= 16 else 0


def lock_file_goes():
    """Whether releasing one of Frappe's locks removes its file: filelock does from version
    3.20.4 on, which 16 brings."""
    return frappe_major() >= 16


def needs_module_map():
    """Whether a site needs its map of modules in Redis before its first request: without
    it the request fails on a thread of the web server that has had a request for a
    removed site (seen on 16.9)."""
    return frappe_major() >= 16

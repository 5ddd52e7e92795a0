"""Log files, the bench's and the site's. They stay open, also after a rename."""

import logging
import os

import frappe


def get_logger(module):
    """One logger per module and site, kept for the life of the process."""
    from frappe.utils import get_bench_path

    site = getattr(frappe.local, "site", None)
    logger = logging.getLogger(f"{module}-{site or 'all'}")
    if logger.handlers:
        return logger
    logger.propagate = False
    folders = [os.path.join(get_bench_path(), "logs")]
    if site:
        folders.append(os.path.join(frappe.local.site_path, "logs"))
    for folder in folders:
        if not os.path.isdir(folder):
            continue  # a site half made, or gone
        handler = logging.FileHandler(os.path.join(folder, f"{module}.log"))
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {module} %(message)s"))
        logger.addHandler(handler)
    return logger

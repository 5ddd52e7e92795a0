# Removal of folders that a tenant's code may have made hard to remove: without
# permissions, thousands of levels deep, full of links.


def open_up(path):
    """Adds the owner's permissions that removing or writing a folder or file needs."""
    mode = os.lstat(path).st_mode  # of the link itself: neither it nor its target is changed
    need = 0o700 if stat.S_ISDIR(mode) else 0o600 if stat.S_ISREG(mode) else 0
    if mode & need != need:
        os.chmod(path, stat.S_IMODE(mode) | need)


def remove(path):
    """Removes a file or a folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        remove_folder(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def remove_folder(root):
    """Removes a folder and everything below it, whatever the permissions. Subfolders are
    first moved up into the root, so no path grows too long and nothing recurses. The
    site's config is removed last, since it tells whose the rest is."""
    config = os.path.join(root, "site_config.json")
    unused, waiting = random_source.token_hex(8), [root]
    while waiting:
        folder = waiting.pop()
        open_up(folder)
        for entry in list(os.scandir(folder)):
            if not entry.is_dir(follow_symlinks=False):
                if entry.path != config:
                    os.remove(entry.path)
                continue
            path = entry.path
            if folder != root:
                open_up(path)  # moving a folder changes its own ".." entry
                path = os.path.join(root, f".{unused}-{entry.inode()}")
                os.rename(entry.path, path)
            waiting.append(path)
        if folder != root:
            os.rmdir(folder)
    remove(config)
    os.rmdir(root)

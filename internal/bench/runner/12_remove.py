# Folders as a tenant's code may have left them: without permissions, thousands deep,
# full of links.


def open_up(path):
    """Gives our user back what he needs of a folder or file of his own."""
    mode = os.lstat(path).st_mode  # a link is left alone, and what it leads to
    need = 0o700 if stat.S_ISDIR(mode) else 0o600 if stat.S_ISREG(mode) else 0
    if mode & need != need:
        os.chmod(path, stat.S_IMODE(mode) | need)


def remove(path):
    """Removes a file or a folder; one that is not there is fine."""
    if os.path.isdir(path) and not os.path.islink(path):
        remove_folder(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def remove_folder(root):
    """Removes a folder with all below it, whatever its permissions. Folders move up to
    the root before their turn: a path may be as long as the system takes, and nothing
    recurs. The site's config goes last, since it says whose the rest is."""
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
                open_up(path)  # its own entry for the folder above changes with it
                path = os.path.join(root, f".{unused}-{entry.inode()}")
                os.rename(entry.path, path)
            waiting.append(path)
        if folder != root:
            os.rmdir(folder)
    remove(config)
    os.rmdir(root)

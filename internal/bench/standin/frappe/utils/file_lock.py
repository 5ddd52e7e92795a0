"""The error of a lock that could not be had in time."""


class LockTimeoutError(Exception):
    pass

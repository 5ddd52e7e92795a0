"""The exceptions callers of Frappe tell apart, with their HTTP codes."""


class SiteNotSpecifiedError(Exception):
    def __init__(self, *args, **kwargs):
        self.message = "Please specify --site sitename"
        super(Exception, self).__init__(self.message)


class ValidationError(Exception):
    http_status_code = 417


class AuthenticationError(Exception):
    http_status_code = 401


class PermissionError(Exception):
    http_status_code = 403


class SessionStopped(Exception):
    http_status_code = 503


class DoesNotExistError(ValidationError):
    http_status_code = 404

    def __init__(self, *args, doctype=None):
        super().__init__(*args)
        self.doctype = doctype


class NameError(Exception):
    http_status_code = 409


class OutgoingEmailError(Exception):
    http_status_code = 501


class NotFound(Exception):
    """Stands for the web framework's exception of that name."""

    http_status_code = 404

    def __str__(self):
        return f"404 Not Found: {self.args[0]}"


class IncorrectSitePath(NotFound):
    pass


class DuplicateEntryError(NameError):
    pass


class DataError(ValidationError):
    pass


class MandatoryError(ValidationError):
    pass


class LinkValidationError(ValidationError):
    pass


class TimestampMismatchError(ValidationError):
    pass


class UniqueValidationError(ValidationError):
    pass


class InvalidEmailAddressError(ValidationError):
    pass


class CharacterLengthExceededError(ValidationError):
    pass


class ImplicitCommitError(ValidationError):
    pass


class InReadOnlyMode(ValidationError):
    http_status_code = 503


class IncompatibleApp(ValidationError):
    pass


class QueryTimeoutError(Exception):
    pass


class QueryDeadlockError(Exception):
    pass


class ExecutableNotFound(FileNotFoundError):
    pass


class CommandFailedError(Exception):
    def __init__(self, message, out, err):
        super().__init__(message)
        self.out = out
        self.err = err

"""Tracebacks as Frappe prints them, with each frame's variables on request."""

import linecache
import sys
import traceback

SECRET = ("password", "passwd", "secret", "token", "key", "pwd")
MASK = "********"
LONGEST = 1000


def get_traceback(with_context=False):
    """The current exception's; only whole names and dict keys are masked, so a
    secret under any other name is printed, as with the real one."""
    from frappe.utils import get_bench_path

    kind, value, tb = sys.exc_info()
    if kind is None:
        return ""
    if with_context:
        text = "\n".join(_with_variables(kind, value, tb)) + "\n"
    else:
        text = "".join(traceback.format_exception(kind, value, tb))
    return text.replace(get_bench_path() + "/", "").rstrip("\n")


def _with_variables(kind, value, tb):
    yield "Traceback with variables (most recent call last):"
    while tb:
        code, line = tb.tb_frame.f_code, tb.tb_lineno
        yield f'  File "{code.co_filename}", line {line}, in {code.co_name}'
        source = linecache.getline(code.co_filename, line).strip()
        if source:
            yield f"    {source}"
        for name, val in tb.tb_frame.f_locals.items():
            yield f"      {name} = {_show(name, val)}"
        tb = tb.tb_next
    yield f"{kind.__module__}.{kind.__name__}: {value}"


def _show(name, val):
    if name in SECRET:
        return MASK
    if isinstance(val, dict):
        val = {k: MASK if k in SECRET else v for k, v in val.items()}
    try:
        text = repr(val)
    except Exception as e:
        text = f"<exception while printing> {e}"
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."

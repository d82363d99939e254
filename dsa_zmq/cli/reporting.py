"""How a command ends when it did not go well: one cause, one remedy, one exit status, and never a traceback."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback

from dsa_zmq.cli.output import shown
from dsa_zmq.errors import DSAError, InternalError

INTERRUPTED = 130
USAGE = 2


def report(error: DSAError, as_json: bool) -> int:
    """Print a known error to stderr; its exit status."""
    if as_json:
        fields = {"code": error.code, "message": error.message, "remedy": error.remedy}
        _say(json.dumps({"error": fields}, ensure_ascii=False))
    else:
        _say(f"dsa: {shown(error.message)}")
        if error.remedy:
            _say(f"  {shown(error.remedy)}")
    return error.exit_status


def report_usage(message: str, remedy: str, as_json: bool) -> int:
    """Print a mistake on the command line; its exit status."""
    if as_json:
        _say(json.dumps({"error": {"code": "usage", "message": message, "remedy": remedy}}, ensure_ascii=False))
    else:
        _say(f"dsa: {shown(message)}")
        if remedy:
            _say(f"  {shown(remedy)}")
    return USAGE


def report_bug(error: BaseException, as_json: bool, verbosity: int) -> int:
    """An exception that nobody expected: a short text, the traceback in a file (or with ``-vv`` on stderr)."""
    trace = "".join(traceback.format_exception(error))
    if verbosity >= 2:
        where = "the traceback is above"
        _say(trace.rstrip())
    else:
        where = _write_trace(trace)
    known = InternalError(
        f"this should not have happened: {type(error).__name__}: {error}",
        f"it is a bug of dsa; please report it: {where}",
    )
    return report(known, as_json)


def _write_trace(trace: str) -> str:
    try:
        fd, path = tempfile.mkstemp(prefix="dsa-error-", suffix=".log")
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
    except OSError:
        return "run it again with -vv to see the traceback"
    return f"the traceback is in {path}"


def _say(line: str) -> None:
    """To stderr, whatever its encoding; a closed stderr is no reason to fail twice."""
    try:
        encoding = sys.stderr.encoding or "ascii"
        sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return

"""The life of a server process: its log, its signals, how it says that it is ready, and its end with its parent."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsa_zmq import app
from dsa_zmq.config import MasterOptions, NodeOptions
from dsa_zmq.errors import DSAError
from dsa_zmq.faults import Imposed, decode, imposed_by

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_JOIN_S = 1.0  #: how long a wait may be deaf to signals where they do not interrupt it (Windows)

log = logging.getLogger("dsa_zmq.process")


@dataclass(frozen=True, slots=True)
class Life:
    """How a server process is to live."""

    log_json: bool = False  #: one JSON object a line instead of text for people
    verbosity: int = 0  #: 1 and more: debug lines too
    ready_file: str | None = None  #: written once it serves, or with the error why it does not
    ends_with_stdin: bool = False  #: stop when the other end of standard input closes, that is: when the parent dies


def run_master(options: MasterOptions, life: Life, *, take_over: bool = False) -> int:
    """Run a master in this process until it ends or is told to; the exit status. Raises DSAError if it cannot start.

    ``take_over`` as in :func:`dsa_zmq.app.start_master`.
    """
    return _serve(lambda: app.start_master(options, take_over=take_over, imposed=imposed_by(os.environ)), life)


def run_node(options: NodeOptions, life: Life) -> int:
    """Run a node in this process until it ends or is told to; the exit status. Raises DSAError if it cannot start."""
    return _serve(lambda: app.start_node(options, imposed=imposed_by(os.environ)), life)


def _serve(start: Callable[[], app.Server], life: Life) -> int:
    app.tune_process()
    configure_logging(life.log_json, life.verbosity)
    parent = _Parent(life.ready_file)
    with stop_signals():
        if life.ends_with_stdin:
            parent.listen()
        try:
            server = start()
        except DSAError as error:
            if life.ready_file:
                failure = {"code": error.code, "message": error.message, "remedy": error.remedy}
                write_atomically(Path(life.ready_file), {"error": failure})
            raise
        except KeyboardInterrupt:
            return 0
        try:
            log.info("serving", extra={"event": "serving", "fields": {"role": server.role, **server.endpoints()}})
            parent.serve(server)
            while (status := server.join(_JOIN_S)) is None:
                pass
        except KeyboardInterrupt:
            ignore_stop_signals()
            log.info("stopping", extra={"event": "stopping", "fields": {}})
            server.stop()
            status = server.join(0) or 0
        log.info("ended", extra={"event": "ended", "fields": {"status": status}})
        return status


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """A small JSON file that readers find whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(content) + "\n", encoding="utf-8")
    new.replace(path)


# --- signals and parents ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Within the block SIGTERM does what Ctrl-C does: KeyboardInterrupt in the main thread."""
    kinds = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup is honoured
        kinds.append(signal.SIGHUP)
    earlier = {kind: signal.signal(kind, signal.default_int_handler) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in earlier.items():
            signal.signal(kind, handler)


def ignore_stop_signals() -> None:
    """The stop is under way: a second Ctrl-C must not cut it short."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class _Parent:
    """The one who started this process, at the other end of standard input. Its lines are faults to impose
    (:mod:`dsa_zmq.faults`), and its end is ours.

    The kernel closes standard input however the parent dies. (Linux's PR_SET_PDEATHSIG fires when the parent's *thread*
    ends, which kills servers that a short-lived thread has started.)
    """

    def __init__(self, ready_file: str | None) -> None:
        self._ready_file = None if ready_file is None else Path(ready_file)
        self._lock = threading.Lock()
        self._server: app.Server | None = None
        self._imposed: Imposed | None = None  # the newest

    def listen(self) -> None:
        """From now on do what it says, and interrupt the main thread when it ends."""
        threading.Thread(target=self._listen, name="stdin", daemon=True).start()

    def serve(self, server: app.Server) -> None:
        """Tell it that this server serves."""
        with self._lock:
            self._server = server
            self._carry_out()

    def _listen(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := os.read(0, 1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                if lines:
                    with self._lock:
                        self._imposed = decode(lines[-1])
                        self._carry_out()
        if hasattr(signal, "pthread_kill") and (main := threading.main_thread().ident) is not None:
            signal.pthread_kill(main, signal.SIGTERM)
        else:
            signal.raise_signal(signal.SIGTERM)

    def _carry_out(self) -> None:
        server, imposed = self._server, self._imposed
        if server is None:
            return
        if imposed is not None:
            server.impose(imposed)
        if self._ready_file is not None:
            done = 0 if imposed is None else imposed.number
            names = sorted(server.names)
            content = {"pid": os.getpid(), **server.endpoints(), "names": names, "imposed": done}
            write_atomically(self._ready_file, content)


# --- logs ---------------------------------------------------------------------------------------------------------------


def configure_logging(as_json: bool, verbosity: int) -> None:
    """Send the log of this process to stderr: for people, or as JSON. Only for programs, never for a library."""
    import structlog  # takes a tenth of a second to import

    renderer: Any
    if as_json:
        renderer = structlog.processors.JSONRenderer(default=repr)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    chain: list[Any] = [
        _take_fields,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=as_json),
    ]
    processors: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        processors.append(structlog.processors.format_exc_info)
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=chain, processors=[*processors, renderer])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity else logging.INFO)


def _take_fields(_: object, __: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The bus hands over events with fields; other records keep their text."""
    record = event_dict.get("_record")
    fields = getattr(record, "fields", None)
    if fields is not None:
        event_dict["event"] = getattr(record, "event", event_dict["event"])
        actor = getattr(record, "actor", None)
        if actor:
            event_dict["actor"] = actor
        event_dict.update({key: value for key, value in fields.items() if key not in event_dict})
    return event_dict

"""Servers as child processes that end with this one: how they are started, found ready, stopped and killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsa_zmq.config import MasterOptions, NodeOptions, Options
from dsa_zmq.errors import DSAError, InternalError, Invalid, Timeout, from_code
from dsa_zmq.faults import VARIABLE, Imposed

START_TIMEOUT_S = 30.0  #: a node may have an index to rebuild; a start usually takes half a second
STOP_TIMEOUT_S = 10.0  #: a server gives itself five seconds to stop in order
IMPOSE_TIMEOUT_S = 10.0  #: for a server to take in a fault, which takes a millisecond
KILL_TIMEOUT_S = 5.0  #: for the kernel to end a killed process, which may wait for its disk
_POLL_S = 0.005
_LOG_TAIL_BYTES = 2000  #: of a log shown when a child died without a word

# Given on the command line, which takes any bytes; everything else goes into a file, which wants UTF-8.
_BY_ARGUMENT = ("dir", "path")


class ServerProcess:
    """One child process that runs a master or a node."""

    def __init__(
        self, name: str, role: str, process: subprocess.Popen[bytes], ready_file: Path, log_file: Path
    ) -> None:
        self.name = name
        self.role = role
        self._process = process
        self._ready_file = ready_file
        self._log_file = log_file
        self._endpoints: dict[str, str] = {}
        self.paused = False  #: it stands still until it is resumed
        self._imposed = 0  # the number of the newest faults that it was told
        self.names: frozenset[str] = frozenset()  #: all that its peers know it by

    def __repr__(self) -> str:
        return f"<ServerProcess {self.name} pid {self.pid} {'running' if self.join(0) is None else 'ended'}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return once it serves. Raises what kept it from that, as the child itself would have said it."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self._process.poll() is not None  # looked at first: it may end right after it has written
            if self._ready_file.exists():
                break
            if ended:
                raise InternalError(
                    f"{self.name} ended with status {self._process.returncode} before it was ready: {self._tail()}",
                    f"its log is {self._log_file}",
                )
            if time.monotonic() > deadline:
                self.kill()
                raise Timeout(f"{self.name} was not ready within {timeout_s:g} s", f"its log is {self._log_file}")
            time.sleep(_POLL_S)
        content = self._content()
        if "error" in content:
            self.join(STOP_TIMEOUT_S)
            self._release()
            raise from_code(content["error"]["code"], content["error"]["message"], content["error"]["remedy"])
        self.names = frozenset(content["names"])
        self._endpoints = {kind: at for kind, at in content.items() if isinstance(at, str)}

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._ready_file.read_text(encoding="utf-8"))
        return content

    def endpoint(self, kind: str) -> str | None:
        """The bound endpoint of ``listen``, ``publish`` or ``subscribe``."""
        return self._endpoints.get(kind)

    def impose(self, imposed: Imposed) -> None:
        """Let faults begin and end, so that these are the ones that hold. Returns once they do; a paused process takes
        them in when it goes on. One that has ended is past all faults."""
        stdin = self._process.stdin
        if stdin is None or stdin.closed or self._process.poll() is not None:
            return
        self._imposed = imposed.number
        with contextlib.suppress(BrokenPipeError):
            stdin.write(imposed.line())
            stdin.flush()
        if not self.paused:
            self._wait_imposed()

    def _wait_imposed(self) -> None:
        deadline = time.monotonic() + IMPOSE_TIMEOUT_S
        while self._process.poll() is None and self._content().get("imposed", 0) < self._imposed:
            if time.monotonic() > deadline:
                raise Timeout(f"{self.name} did not take in a fault within {IMPOSE_TIMEOUT_S:g} s", "try again")
            time.sleep(_POLL_S)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does; returns once it stands still. Idempotent."""
        if sys.platform == "win32":
            raise Invalid("processes cannot be paused on Windows", "use a cluster in threads: processes=False")
        if self._process.poll() is None and not self.paused:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self.paused = True

    def resume(self) -> None:
        """Let it go on; returns once the faults that were imposed meanwhile hold. Idempotent."""
        if self.paused:
            self._continue()
            self._wait_imposed()

    def _continue(self) -> None:
        if sys.platform != "win32" and self.paused:
            self._process.send_signal(signal.SIGCONT)
            self.paused = False

    def stop(self) -> None:
        """Ask it to stop in order, and wait; killed if it takes too long. Idempotent."""
        self.request_stop()
        if self.join(STOP_TIMEOUT_S) is None:
            self.kill()
        self._release()

    def request_stop(self) -> None:
        """Ask it to stop in order, without waiting."""
        if self._process.poll() is None:
            self._process.terminate()
            self._continue()

    def kill(self) -> None:
        """End it at once, as a crash would. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self.join(KILL_TIMEOUT_S)
        self._release()

    def join(self, timeout_s: float | None = None) -> int | None:
        """Its exit status, or None if it still runs after that time."""
        if timeout_s == 0:
            return self._process.poll()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def _release(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _tail(self) -> str:
        try:
            text = self._log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError as error:
            return f"no log ({error.strerror})"
        return text.splitlines()[-1] if text else "it said nothing"


def spawn(
    name: str,
    options: MasterOptions | NodeOptions,
    run_dir: Path,
    imposed: Imposed | None = None,
    prefix: Sequence[str] = (),
) -> ServerProcess:
    """Start a server as a child; ``run_dir`` (which must exist) takes its log, its options and its ready file.
    ``imposed`` holds from its first moment on. ``prefix`` comes before the command and must end by executing it, as
    ``ip netns exec NAME`` does.

    Wait for it with :meth:`ServerProcess.wait_ready`: several can start at once.
    """
    role = "master" if isinstance(options, MasterOptions) else "node"
    ready_file, log_file, config = (run_dir / f"{name}.{suffix}" for suffix in ("ready", "log", "toml"))
    ready_file.unlink(missing_ok=True)
    config.write_text(_to_toml(role, options), encoding="utf-8")
    command = [*prefix, sys.executable, "-m", f"dsa_zmq.{role}", "--config", str(config)]
    for key in _BY_ARGUMENT:
        if key in options.__struct_fields__:
            command += [f"--{key}", str(getattr(options, key))]
    command += ["--ready-file", str(ready_file), "--end-with-stdin"]
    variables = environment()
    if imposed is not None:
        variables[VARIABLE] = imposed.line().decode()
    settings: dict[str, Any] = {}
    if sys.platform == "win32":
        settings["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        settings["start_new_session"] = True  # a Ctrl-C on the terminal is for the parent, which stops them in order
    try:
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=run_dir, env=variables, **settings
            )
    except OSError as error:
        raise DSAError(
            f"{name} cannot be started: {error}", "see whether this user may start more processes"
        ) from error
    return ServerProcess(name, role, process, ready_file, log_file)


def environment() -> dict[str, str]:
    """The child must find the very package that runs here, also when it was never installed."""
    root = str(Path(__file__).resolve().parent.parent)
    earlier = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, earlier] if earlier else [root])}


def _as_toml(value: object) -> str:
    """Strings, numbers and booleans are written as in JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_as_toml(each)}" for name, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _to_toml(section: str, options: Options) -> str:
    lines = [f"[{section}]"]
    for field in options.__struct_fields__:
        value = getattr(options, field)
        if value is None or field in _BY_ARGUMENT:
            continue
        lines.append(f"{field} = {_as_toml(value)}")
    return "\n".join(lines) + "\n"

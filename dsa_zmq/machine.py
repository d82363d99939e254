"""What a server must know of the machine it runs on: which one it is, which disk, which of its addresses others see."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Container
from pathlib import Path

_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def machine_id() -> str:
    """Names this machine, the same after every start: the default failure domain."""
    for name in _ID_FILES:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text and text != "uninitialized":
            return text
    return f"{uuid.getnode():012x}-{socket.gethostname()}"  # macOS, Windows and small containers


def disk_id(path: str | os.PathLike[str]) -> str:
    """Names the file system of a directory, to notice when nodes share one."""
    return f"{machine_id()}:{os.stat(path).st_dev:x}"


def held_bytes(directory: str | os.PathLike[str], *, but: Container[str] = ()) -> int:
    """Bytes of all files below it, except in directories of the names ``but``."""
    total = 0
    for folder, inside, files in os.walk(directory):
        inside[:] = [name for name in inside if name not in but]
        for name in files:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except OSError:  # a file that goes away meanwhile holds nothing
                continue
    return total


def address_towards(host: str, port: int) -> str:
    """The address of this machine that packets to ``host`` come from; its host name if there is no way there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing: only chooses a route
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()

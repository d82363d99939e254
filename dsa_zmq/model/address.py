"""Addresses as people write them: ``dsa://host[,host2,...][:port]`` for a cluster, ``host[:port]`` for one process."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from dsa_zmq.errors import Invalid
from dsa_zmq.model.limits import MASTER_PORT

DEFAULT_URL = f"dsa://127.0.0.1:{MASTER_PORT}"
ANY_HOST = ("*", "0.0.0.0", "::")  #: every interface of the machine: good for binding, nobody can connect to it

_HOST_BYTES = 253  #: the longest name DNS knows
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_REMEDY = "write dsa://HOST or dsa://HOST:PORT, as in dsa://127.0.0.1:7700 or dsa://[::1]:7700"


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where one process listens. ``host`` is a name or an IP address, an IPv6 one without its brackets."""

    host: str
    port: int

    @property
    def endpoint(self) -> str:
        """As the bus writes it, ``tcp://host:port``."""
        return f"tcp://{self}"

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_any(self) -> bool:
        """It stands for every interface."""
        return self.host in ANY_HOST

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_url(url: str) -> tuple[HostPort, ...]:
    """The masters of a cluster address, in the order to try. A port at the end is that of all hosts. Raises Invalid."""
    text = url.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        rest = text
    elif scheme.lower() != "dsa":
        raise Invalid(f"'{_shown(url)}' is not the address of a DSA cluster: it begins with {_shown(scheme)}://", _REMEDY)
    rest = rest.removesuffix("/")
    if "/" in rest or "?" in rest or "#" in rest or "@" in rest:
        raise Invalid(f"'{_shown(url)}' is not the address of a DSA cluster: only host and port belong there", _REMEDY)
    *first, last = rest.split(",")
    if not all(rest.split(",")):
        raise Invalid(f"'{_shown(url)}' is not the address of a DSA cluster: a host is missing", _REMEDY)
    end = parse_host_port(last, MASTER_PORT)
    return (*(HostPort(_host(host), end.port) for host in first), end)


def parse_host_port(text: str, default_port: int) -> HostPort:
    """``host``, ``host:port``, ``[v6]``, ``[v6]:port``, also behind ``tcp://`` or ``dsa://``. Port 0 means any free one.
    Raises Invalid."""
    rest = text.strip()
    for scheme in ("tcp://", "dsa://"):
        rest = rest.removeprefix(scheme)
    rest = rest.removesuffix("/")
    bracketed = re.fullmatch(r"(\[[^\]]*\])(?::(.*))?", rest)
    if bracketed:
        host, port = bracketed.group(1), bracketed.group(2)
    elif rest.count(":") > 1:  # an IPv6 address; a port behind it could not be told from its last group
        host, port = rest, None
    else:
        host, colon, digits = rest.partition(":")
        port = digits if colon else None
    if port is None:
        return HostPort(_host(host), default_port)
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise Invalid(f"'{_shown(port)}' in '{_shown(text)}' is not a port", "a port is a number from 0 to 65535")
    return HostPort(_host(host), int(port))


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if ":" not in text:
            raise Invalid(f"'[{_shown(text)}]' is not an IPv6 address", "brackets are for IPv6 addresses, as in [::1]")
    if text in ANY_HOST:
        return text
    if ":" in text or re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise Invalid(f"'{_shown(text)}' is not an IP address", _REMEDY) from None
        return text
    if len(text) > _HOST_BYTES or not _NAME.fullmatch(text):
        raise Invalid(f"'{_shown(text)}' is not a host name" if text else "a host is missing", _REMEDY)
    return text


def _shown(text: str) -> str:
    """For an error message: short, and printable everywhere."""
    text = text.encode("ascii", "backslashreplace").decode()
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return text if len(text) <= 80 else f"{text[:77]}..."

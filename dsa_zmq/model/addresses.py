"""Where a cluster is: ``dsa://host[,host2,...][:port]`` for people, ``tcp://host:port`` (an *endpoint*) for the bus."""

from __future__ import annotations

import ipaddress
import re

from dsa_zmq.errors import Invalid
from dsa_zmq.model.limits import MASTER_PORT

SCHEME = "dsa://"
DEFAULT_URL = f"{SCHEME}127.0.0.1:{MASTER_PORT}"  #: where a command looks if nothing else is said
WILDCARDS = frozenset(("0.0.0.0", "::", "*"))  #: "every interface": fine to listen at, nowhere to connect to

_TCP = "tcp://"
_URL_REMEDY = "write dsa://host:7700, or dsa://host1,host2:7700 for several masters"
_ANY_SCHEME = re.compile(r"^((tcp|dsa)://)?", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?")
_DIGITS_AND_DOTS = re.compile(r"[0-9.]+")
_MEMBER = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(:(?P<port>[^:]*))?")


def parse_url(text: str) -> tuple[str, ...]:
    """The endpoints of a cluster's masters, in the order written.

    ``dsa://h1,h2:7801`` gives one port to all, ``dsa://h1:7801,h2:7802`` one to each; without any it is 7700. IPv6
    addresses stand in brackets. Raises :class:`Invalid` for everything else.
    """
    if text[: len(SCHEME)].lower() != SCHEME:
        raise Invalid(f"{_shown(text)} is not the address of a cluster", _URL_REMEDY)
    written = text[len(SCHEME) :].removesuffix("/")
    if found := re.search(r"[/?#@\s]|[^\x20-\x7e]", written):
        raise Invalid(f"address {_shown(text)} has {found.group()!r} where only hosts and a port may be", _URL_REMEDY)
    members = [_parse_member(text, member) for member in written.split(",")]
    without = [port is None for _, port in members]
    shared = members[-1][1]
    if any(without) and any(port is not None for _, port in members[:-1]):
        raise Invalid(
            f"address {_shown(text)} gives a port to some hosts only",
            "write one port after each host, or one at the end",
        )
    return tuple(endpoint(host, port or shared or MASTER_PORT) for host, port in members)


def _parse_member(text: str, member: str) -> tuple[str, int | None]:
    """Host (without brackets) and port, if there is one."""
    match = _MEMBER.fullmatch(member)
    if match is None:
        raise Invalid(
            f"{_shown(member)} in address {_shown(text)} is not a host",
            "write IPv6 addresses in brackets, as in [::1]:7700",
        )
    host = _check_host(text, match["host"])
    return host, None if match["port"] is None else _check_port(text, match["port"], lowest=1)


def _check_host(text: str, host: str) -> str:
    if not host:
        raise Invalid(f"address {_shown(text)} lacks a host", _URL_REMEDY)
    if host.startswith("["):
        return _check_ipv6(text, host[1:-1])
    if host in WILDCARDS:
        raise Invalid(
            f"{host} in address {_shown(text)} is no host to connect to",
            "write the name or address of the master's host",
        )
    if _DIGITS_AND_DOTS.fullmatch(host) and not _is_ip(host, 4):
        raise Invalid(
            f"{_shown(host)} in address {_shown(text)} is not an IPv4 address", "write four numbers from 0 to 255"
        )
    if _HOST.fullmatch(host) is None:
        raise Invalid(f"{_shown(host)} in address {_shown(text)} is not a host name", _URL_REMEDY)
    return host


def _check_ipv6(text: str, host: str) -> str:
    if not _is_ip(host, 6):
        raise Invalid(
            f"{_shown(host)} in address {_shown(text)} is not an IPv6 address", "write it as in [fe80::1]:7700"
        )
    if host in WILDCARDS:
        raise Invalid(
            f"[{host}] in address {_shown(text)} is no host to connect to",
            "write the name or address of the master's host",
        )
    return host


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False


def _check_port(text: str, port: str, lowest: int) -> int:
    if re.fullmatch(r"[0-9]{1,5}", port) is None or not lowest <= int(port) <= 65535:
        raise Invalid(
            f"{_shown(port)} in address {_shown(text)} is not a port", f"write a number from {lowest} to 65535"
        )
    return int(port)


def endpoint(host: str, port: int) -> str:
    """``tcp://host:port``; an IPv6 address gets its brackets."""
    return f"{_TCP}[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{_TCP}{host}:{port}"


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host (without brackets) and port of an endpoint; port 0 means any. :class:`Invalid` if it is none."""
    match = _MEMBER.fullmatch(endpoint[len(_TCP) :]) if endpoint.startswith(_TCP) else None
    if match is None or not match["host"] or match["port"] is None:
        raise Invalid(f"{_shown(endpoint)} is not an endpoint", "write tcp://host:port")
    return match["host"].strip("[]"), _check_port(endpoint, match["port"], lowest=0)


def with_host(endpoint_: str, host: str) -> str:
    """The endpoint with a wildcard host replaced by ``host``: by which way its owner was reached. Others stay."""
    own, port = split_endpoint(endpoint_)
    return endpoint(host, port) if own in WILDCARDS else endpoint_


# --- one server, as people write it in options -------------------------------------------------------------------------


def master_endpoint(text: str) -> str:
    """``host``, ``host:port``, ``dsa://host:port`` or ``tcp://host:port`` as an endpoint. Raises Invalid."""
    endpoints = _endpoints(_ANY_SCHEME.sub("", text.strip(), count=1))
    if len(endpoints) > 1:
        raise Invalid(f"'{text[:80]}' names {len(endpoints)} masters; a node serves one", "name one host")
    return endpoints[0]


def advertised_endpoint(text: str, port: int) -> str:
    """As :func:`master_endpoint`, with the node's own port if the text has none."""
    rest = _ANY_SCHEME.sub("", text.strip(), count=1)
    bare = ":" not in rest.rpartition("]")[2]
    return master_endpoint(f"{rest}:{port}" if bare else rest)


def _endpoints(text: str) -> tuple[str, ...]:
    """As :func:`parse_url`, without the scheme, which errors do not speak of then."""
    try:
        return parse_url(SCHEME + text)
    except Invalid as error:
        remedy = "write host or host:port, as in 10.0.0.1:7700" if error.remedy == _URL_REMEDY else error.remedy
        raise Invalid(error.message.replace(f"'{SCHEME}", "'", 1), remedy) from None


def connect_host(text: str) -> str:
    """A host without a port, that one can connect to, without brackets. Raises Invalid."""
    rest = _ANY_SCHEME.sub("", text.strip(), count=1)
    if ":" in rest and not rest.startswith("[") and rest.count(":") > 1:
        rest = f"[{rest}]"  # a bare IPv6 address
    if ":" in rest.rpartition("]")[2] or "," in rest:
        raise Invalid(f"'{text[:80]}' is more than a host", "write the host alone: the port is given apart")
    host, _ = split_endpoint(_endpoints(rest)[0])
    return host


def listen_host(text: str) -> str:
    """A host of this machine, or a wildcard, without brackets. Raises Invalid."""
    host = text.strip()
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return bare if bare in WILDCARDS else connect_host(host)


def is_loopback(host: str) -> bool:
    """Only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(text: str) -> str:
    """Printable on any terminal, long ones cut."""
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "..."

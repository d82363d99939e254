"""What the servers are told: options, read from the command line, a TOML file, or a node's classic ``config.dsa``.

Command line before file before default. A file with something wrong in it is refused with its name, the line, the key,
and what belongs there; an unknown key is an error, since it is a typing error more often than anything else.
"""

from __future__ import annotations

import functools
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

import msgspec

from dsa_zmq.errors import ConfigError, Invalid
from dsa_zmq.model import limits
from dsa_zmq.model.addresses import (
    advertised_endpoint,
    connect_host,
    endpoint,
    is_loopback,
    listen_host,
    master_endpoint,
    split_endpoint,
)
from dsa_zmq.model.catalog_care import CatalogCare, catalog_care
from dsa_zmq.model.erasure import check_library
from dsa_zmq.model.pace import CarePace, HealingPace, told
from dsa_zmq.model.placement import DEFAULT_POLICY, POLICIES
from dsa_zmq.model.redundancy import DEFAULT as DEFAULT_REDUNDANCY
from dsa_zmq.model.redundancy import lesser, parse_redundancy
from dsa_zmq.model.sizes import parse_size

MAX_CONFIG_BYTES = 1 << 20  #: a configuration is a page; anything bigger is the wrong file

_NODE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_ZONE = re.compile(r"([^\s'\"]([^'\"]{0,61}[^\s'\"])?)?")  #: any script; it stands between quotes and in tables


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the option sets: one field, one long option of the command line, one key of the TOML section."""

    def checked(self) -> Self:
        """Itself, if the values make sense together. Raises Invalid."""
        return self


class MasterOptions(Options, frozen=True, kw_only=True):
    """``[master]``"""

    dir: str  #: data directory
    bind: str = "127.0.0.1"  #: address of this machine to listen at
    port: int = limits.MASTER_PORT  #: control; hints and heartbeats follow on the next two. 0: any three free ones
    hints_port: int | None = None
    heartbeats_port: int | None = None
    insecure: bool = False  #: listen to other machines without keys
    redundancy: str = DEFAULT_REDUNDANCY  #: of the root directory when the catalog is made
    placement: str = DEFAULT_POLICY
    heartbeat_s: float = limits.HEARTBEAT_S
    suspect_s: float = limits.SUSPECT_S
    down_s: float = limits.DOWN_S
    upload_lease_s: float = limits.UPLOAD_LEASE_S
    metrics: int | None = None  #: port to serve figures at; 0: any free one; None: not at all
    healing: dict[str, str | float] = {}  #: ``[master.healing]``: see :class:`HealingPace`; in a file only
    catalog: dict[str, str | float] = {}  #: ``[master.catalog]``: see :class:`CatalogCare`; in a file only
    catalog_copies: str | None = None  #: its ``copies``, on the command line
    catalog_history: str | float | None = None  #: its ``history``

    def checked(self) -> Self:
        parse_redundancy(self.redundancy)
        check_placement(self.placement)
        if not 0 < self.heartbeat_s < self.suspect_s < self.down_s:
            raise Invalid(
                f"heartbeat_s {self.heartbeat_s}, suspect_s {self.suspect_s} and down_s {self.down_s} do not fit together",
                "each must be more than the one before, and more than 0",
            )
        for name, port in zip(("port", "hints_port", "heartbeats_port"), self.ports(), strict=True):
            _check_port(name, port)
        self.pace()
        self.care()
        if self.metrics is not None:
            _check_port("metrics", self.metrics)
        _refuse_open_bind(listen_host(self.bind), self.insecure)
        return self

    def pace(self) -> HealingPace:
        """How fast it heals. All of a cluster's times go with its heartbeats, but for those that are said."""
        return told(HealingPace().faster(limits.HEARTBEAT_S / self.heartbeat_s), self.healing)

    def care(self) -> CatalogCare:
        """How the copies of the catalog are kept."""
        said = {"copies": self.catalog_copies, "history": self.catalog_history}
        return catalog_care(
            {name: value for name, value in said.items() if value is not None}, catalog_care(self.catalog)
        )

    def ports(self) -> tuple[int, int, int]:
        """Control, hints, heartbeats; 0 means any free one."""
        hints = self.hints_port if self.hints_port is not None else self.port + 1 if self.port else 0
        beats = self.heartbeats_port if self.heartbeats_port is not None else self.port + 2 if self.port else 0
        return self.port, hints, beats


class NodeOptions(Options, frozen=True, kw_only=True):
    """``[node]``"""

    master: str = f"127.0.0.1:{limits.MASTER_PORT}"
    path: str  #: data directory
    capacity: str | int | None = None  #: None: the free space less the reserve
    name: str = ""  #: "": the host's
    zone: str = ""  #: failure domain above the host
    bind: str | None = None  #: None: loopback if the master is there, else every interface
    port: int = limits.NODE_PORT  #: data port; 0: any free one
    advertise: str = ""  #: where others reach the data port, if not where it is bound
    insecure: bool = False
    reserve: str | int | None = None  #: bytes kept free on the disk; None: the larger of 1 GiB and 5 % of the disk
    segment_bytes: int = limits.SEGMENT_BYTES
    host: str = ""  #: failure domain; "": this machine
    metrics: int | None = None  #: port to serve figures at; 0: any free one; None: not at all
    care: dict[str, str | float] = {}  #: ``[node.care]``: see :class:`CarePace`; in a file only

    def checked(self) -> Self:
        master_endpoint(self.master)
        for name in ("capacity", "reserve"):
            value = getattr(self, name)
            if value is not None and parse_size(str(value), whole=1 << 62) == 0 and name == "capacity":
                raise Invalid(
                    "capacity 0 leaves no room for a single shard", "give some gigabytes, as in 500GB, or 80%"
                )
        if self.name and not _NODE_NAME.fullmatch(self.name):
            raise Invalid(
                f"'{self.name[:80]}' is not a node name", "use up to 63 letters, digits, '.', '_' and '-', as in node-1"
            )
        if not (_ZONE.fullmatch(self.zone) and self.zone.isprintable()):
            raise Invalid(f"{self.zone[:80]!r} is not a zone", "use up to 63 characters without quotes, as in row-a")
        _check_port("port", self.port)
        if self.metrics is not None:
            _check_port("metrics", self.metrics)
        if self.advertise:
            advertised_endpoint(self.advertise, self.port or 1)
        self.pace()
        _refuse_open_bind(self.listen_host(), self.insecure)
        return self

    def pace(self) -> CarePace:
        """How it looks after its disk."""
        return told(CarePace(), self.care)

    def listen_host(self) -> str:
        """Where the data port is to be bound."""
        if self.bind is not None:
            return listen_host(self.bind)
        master, _ = split_endpoint(master_endpoint(self.master))
        return "127.0.0.1" if is_loopback(master) else "0.0.0.0"

    def node_name(self) -> str:
        """The given name, or the host's, made printable."""
        if self.name:
            return self.name
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("-._")[:63].strip("-._")
        return host or "node"


class LocalOptions(Options, frozen=True, kw_only=True):
    """``[cluster]``: what ``dsa up`` runs."""

    nodes: int | None = None  #: None: as many as there were, at first 4
    dir: str | None = None  #: None: below the user's data directory
    port: int = limits.MASTER_PORT
    redundancy: str | None = None  #: None: as it was, at first copies=2
    placement: str | None = None
    catalog_copies: str | None = None  #: None: sync
    catalog_history: str | float | None = None  #: None: an hour

    def checked(self) -> Self:
        if self.nodes is not None:
            check_nodes(self.nodes, self.redundancy or DEFAULT_REDUNDANCY)
        if self.redundancy is not None:
            parse_redundancy(self.redundancy)
        if self.placement is not None:
            check_placement(self.placement)
        _check_port("port", self.port)
        self.care()
        return self

    def care(self) -> CatalogCare:
        """How the copies of the catalog are kept."""
        said = {"copies": self.catalog_copies, "history": self.catalog_history}
        return catalog_care({name: value for name, value in said.items() if value is not None})


_O = TypeVar("_O", bound=Options)

SECTIONS: Mapping[str, type[Options]] = {"master": MasterOptions, "node": NodeOptions, "cluster": LocalOptions}


def check_nodes(nodes: int, redundancy: str) -> None:
    """Refuse a cluster on this machine that could not store a single file. Raises Invalid, or ConfigError if it would need a
    library that is not here."""
    if not isinstance(nodes, int) or not 1 <= nodes <= 64:
        raise Invalid(f"{nodes!r} nodes on one machine make no sense", "run 1 to 64 of them")
    wanted = parse_redundancy(redundancy)
    if wanted.shards > nodes:
        raise Invalid(
            f"{redundancy} needs {wanted.shards} nodes, and there would be {nodes}",
            f"run at least {wanted.shards} nodes, or say redundancy {lesser(wanted, nodes)}",
        )
    if not wanted.alike:
        check_library()


def check_placement(name: str) -> None:
    """Raises Invalid unless it is a known policy."""
    if name not in POLICIES:
        raise Invalid(f"'{name[:80]}' is not a placement", f"write one of: {', '.join(sorted(POLICIES))}")


def options(kind: type[_O], given: Mapping[str, Any], config: str | Path | None = None) -> _O:
    """Options of one kind from the command line's (None: not given) and a file's. Raises Invalid, ConfigError."""
    values: dict[str, Any] = {}
    if config is not None:
        values.update(read_config(config, kind))
    values.update({name: value for name, value in given.items() if value is not None})
    section = next(name for name, owner in SECTIONS.items() if owner is kind)
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in values:
            remedy = f"say --{field.name}, or write {field.name} into [{section}] of the --config file"
            raise Invalid(f"--{field.name} is missing", remedy)
    try:
        return msgspec.convert(values, kind).checked()
    except msgspec.ValidationError as error:
        raise Invalid(f"option of [{section}]: {error}", "correct it") from None


def read_config(file: str | Path, kind: type[Options]) -> dict[str, Any]:
    """The values that a file gives for one kind of options: TOML, or for a node a ``*.dsa`` file. Raises ConfigError.

    Relative directories in a file are relative to the file.
    """
    path = Path(file)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_CONFIG_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"configuration {path} cannot be read: {reason}", "check the path", str(path)) from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"configuration {path} is over 1 MiB", "this is probably the wrong file", str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _wrong(path, line, "bytes that are not UTF-8", "save the file as UTF-8 text") from None
    if path.suffix == ".dsa":
        if kind is not NodeOptions:
            raise ConfigError(f"{path} is a node's configuration", "give a .toml file here", str(path))
        values = _parse_classic(path, text)
    else:
        values = _parse_toml(path, text, kind)
    for key in ("dir", "path"):
        if isinstance(values.get(key), str):
            values[key] = str(path.absolute().parent / Path(values[key]).expanduser())
    return values


def _parse_toml(path: Path, text: str, kind: type[Options]) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct that line", str(path)) from None
    values: dict[str, Any] = {}
    for section, table in document.items():
        owner = SECTIONS.get(section)
        if owner is None:
            known = ", ".join(f"[{name}]" for name in SECTIONS)
            raise _wrong(path, _line_of(text, "", section), f"unknown section '{section}'", f"the sections are {known}")
        if not isinstance(table, dict):
            raise _wrong(path, _line_of(text, "", section), f"'{section}' is not a section", f"write [{section}]")
        for key, value in table.items():
            _check_value(path, text, section, owner, key, value)
        if owner is kind:
            values = dict(table)
    return values


def _check_value(path: Path, text: str, section: str, owner: type[Options], key: str, value: object) -> None:
    """Even of sections that nobody asked for now: a mistake is told at once."""
    types = _types(owner)
    line = _line_of(text, section, key)
    if key not in types:
        raise _wrong(path, line, f"[{section}] has no key '{key}'", f"the keys are {', '.join(sorted(types))}")
    try:
        msgspec.convert(value, types[key])
    except msgspec.ValidationError as error:
        expected = str(error).replace("`", "").replace(" | null", "")
        raise _wrong(path, line, f"{key}: {expected[0].lower()}{expected[1:]}", "correct that line") from None
    if (check := _TABLES.get(key)) is not None and isinstance(value, dict):
        for name, each in value.items():
            try:
                check({name: each})
            except Invalid as error:
                line = _line_of(text, f"{section}.{key}", name)
                raise _wrong(path, line, f"[{section}.{key}]: {error.message}", error.remedy) from None


_TABLES: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "healing": functools.partial(told, HealingPace()),
    "care": functools.partial(told, CarePace()),
    "catalog": catalog_care,
}


@functools.cache
def _types(owner: type[Options]) -> dict[str, Any]:
    hints = get_type_hints(owner)
    return {field.name: hints[field.name] for field in msgspec.structs.fields(owner)}


def _line_of(text: str, section: str, key: str) -> int:
    """The line where a key (or with ``section`` empty, a section) is written; 0 if it is written in an unusual way."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*[\"']?([^]\"'\s]+)[\"']?\s*\]", line)
        if header:
            current = header.group(1)
            if not section and current == key:
                return number
        elif re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line) and current == section:
            return number
    return 0


_CLASSIC = (
    ("address_of_master", "the master's host name or IP address, as in 192.168.0.10"),
    ("port_of_welcoming_socket", "the number of the master's port, as in 7700"),
    ("storage_space_in_bytes", "a whole number of bytes, as in 500000000000"),
    ("path/to/local/storage/space", "the path of the node's directory, as in /srv/dsa"),
)


def _parse_classic(path: Path, text: str) -> dict[str, Any]:
    """Four bare lines: address_of_master, port_of_welcoming_socket, storage_space_in_bytes, path/to/local/storage/space."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) < len(_CLASSIC):
        name, example = _CLASSIC[len(lines)]
        remedy = f"the file needs four lines; here belongs {example}"
        raise _wrong(path, len(text.splitlines()) + 1, f"{name} is missing", remedy)
    if len(lines) > len(_CLASSIC):
        raise _wrong(path, lines[4][0], "a fifth line", "the file has four lines: remove the others")
    (n1, address), (n2, port), (n3, space), (_, directory) = lines
    try:
        host = connect_host(address)
    except Invalid as error:
        raise _wrong(path, n1, f"{_CLASSIC[0][0]}: {error.message}", f"here belongs {_CLASSIC[0][1]}") from None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) <= 65_535:
        raise _wrong(path, n2, f"{_CLASSIC[1][0]}: '{port[:80]}' is not a port", f"here belongs {_CLASSIC[1][1]}")
    if not re.fullmatch(r"[0-9]{1,19}", space) or int(space) == 0:
        raise _wrong(path, n3, f"{_CLASSIC[2][0]}: '{space[:80]}' is not a size", f"here belongs {_CLASSIC[2][1]}")
    return {"master": endpoint(host, int(port)), "capacity": int(space), "path": directory}


def _wrong(path: Path, line: int, what: str, remedy: str) -> ConfigError:
    where = f"{path}, line {line}" if line else str(path)
    return ConfigError(f"{where}: {what}", remedy, str(path))


def _check_port(name: str, port: int) -> None:
    if not 0 <= port <= 65_535:
        raise Invalid(f"{name} {port} is not a port", "a port is a number from 0 to 65535")


def _refuse_open_bind(host: str, insecure: bool) -> None:
    if not insecure and not is_loopback(host):
        raise Invalid(
            f"listening at {host} would let every machine that reaches it read and write everything",
            "bind to 127.0.0.1, or say --insecure if that network is yours alone",
        )

"""docs/PROTOCOL.md says what the code does: every message with its tag and fields, every limit, every error code."""

from __future__ import annotations

import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import limits as bus_limits
from dsa_zmq.errors import BY_CODE, DSAError
from dsa_zmq.model import limits, macs
from dsa_zmq.model.ids import NONCE_BITS
from dsa_zmq.protocol import messages, operations, values, volumes

TEXT = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TEXT.splitlines() if line.startswith("| ")]
PROSE = " ".join(TEXT.split())

STRUCTS = [
    cls
    for module in (messages, operations, values, volumes)
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, msgspec.Struct) and cls.__module__ == module.__name__ and cls is not values.Value
]
TYPE_NAMES = {int: "int", str: "text", bytes: "bytes", bool: "bool", type(None): "nil"}
DEFAULTS: dict[Any, str] = {"": '""', b"": '""', None: "nil", True: "true", False: "false"}


def type_name(kind: Any) -> str:
    if kind in TYPE_NAMES:
        return TYPE_NAMES[kind]
    if kind in (operations.Operation, operations.Result):
        return "operation" if kind == operations.Operation else "answer"
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_name, arguments))
    return str(kind.__name__)


def default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    if field.default_factory is not msgspec.NODEFAULT:
        return f" = {field.default_factory()!r}"
    return f" = {field.default if type(field.default) is int else DEFAULTS[field.default]}"


def described(cls: type[msgspec.Struct]) -> list[str]:
    """The first cells of its row."""
    fields = [f"`{field.name}` {type_name(field.type)}{default_text(field)}" for field in msgspec.structs.fields(cls)]
    tag = cls.__struct_config__.tag
    return [*([] if tag is None else [str(tag)]), f"`{cls.__name__}`", ", ".join(fields) or "none"]


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_every_message_operation_and_value_has_its_row(cls: type[msgspec.Struct]) -> None:
    cells = described(cls)
    found = [row for row in ROWS if row[: len(cells)] == cells]
    assert len(found) == 1, "docs/PROTOCOL.md needs one row: | " + " | ".join(cells) + " | meaning |"
    assert len(found[0]) == len(cells) + 1
    assert found[0][-1]


def test_no_row_describes_what_is_gone() -> None:
    names = {f"`{cls.__name__}`" for cls in STRUCTS}
    tagged = {row[1] for row in ROWS if row[0].isdigit() and len(row) == 4 and row[1].startswith("`")}
    untagged = {row[0] for row in ROWS if len(row) == 3 and row[0].startswith("`") and row[0][1].isupper()}
    assert tagged | untagged == names


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_the_reply_that_the_code_names_is_the_one_that_is_documented(cls: type[msgspec.Struct]) -> None:
    _, arrow, reply = (cls.__doc__ or "").partition("-> ")
    row = next(row for row in ROWS if f"`{cls.__name__}`" in row[:2])
    names = {other.__name__ for other in STRUCTS} & set(re.findall(r"\w+", reply))
    assert bool(names) == bool(arrow)
    assert all(f"`{name}`" in row[-1] for name in names)


@pytest.mark.parametrize("cls", BY_CODE.values(), ids=lambda cls: cls.code)
def test_every_error_code_has_its_row(cls: type[DSAError]) -> None:
    effect = "yes" if cls.indefinite else "no"
    assert [row[:3] for row in ROWS if row[0] == f"`{cls.code}`"] == [[f"`{cls.code}`", str(cls.exit_status), effect]]


def bytes_of_layout(first: str) -> int:
    """Sum of the byte column of the MAC table that begins with this field."""
    start = next(index for index, row in enumerate(ROWS) if row[0] == "1" and row[1].startswith(first))
    total = 0
    for row in ROWS[start:]:
        if len(row) != 2 or not row[0].isdigit():
            break
        total += int(row[0])
    return total


def test_the_layouts_of_the_macs_have_their_size() -> None:
    assert bytes_of_layout("`r`") == 1 + macs._GRANT.size == 74
    assert bytes_of_layout("`R`") == 1 + macs._RECEIPT.size == 98
    assert "these 74 bytes" in PROSE
    assert "these 98 bytes" in PROSE


@pytest.mark.parametrize(
    "statement",
    [
        f"version {messages.PROTOCOL_VERSION}",
        f"`PROTOCOL_VERSION` is {messages.PROTOCOL_VERSION}",
        f"`OLDEST_VERSION`, the oldest that this software still understands, is {messages.OLDEST_VERSION}",
        f"ROUTER, port {limits.MASTER_PORT}",
        f"PUB, port {limits.HINTS_PORT}",
        f"SUB, port {limits.HEARTBEATS_PORT}",
        f"ROUTER, port {limits.NODE_PORT}",
        f"encoded message | {bus_limits.MAX_MESSAGE_BYTES >> 20} MiB",
        f"a message | {bus_limits.MAX_PAYLOAD_BYTES >> 20} MiB + {(bus_limits.MAX_PAYLOAD_BYTES & 0xFFFFF) >> 10} KiB",
        f"payload frames | {bus_limits.MAX_PAYLOAD_FRAMES:,}",
        f"number of payload frames, 1 to {bus_limits.MAX_PAYLOAD_FRAMES:,}",
        f"joined payload frame | {bus_limits.JOINED_FRAME_BYTES >> 10} KiB",
        f"joined payload | {bus_limits.JOINED_PAYLOAD_BYTES >> 10} KiB",
        f"message with joined payload | {bus_limits.JOINED_MESSAGE_BYTES >> 10} KiB",
        f"at most {limits.MAX_CALLS}",
        f"At most {limits.MAX_OPEN_CALLS:,} may be unanswered",
        f"after {limits.RETRY_FIRST_S:g} s",
        f"up to {limits.RETRY_MAX_S:g} s",
        f"its deadline ({limits.REQUEST_TIMEOUT_S:g} s",
        f"another lease of {limits.UPLOAD_LEASE_S} s",
        f"when nothing new was asked in it for {limits.REPLY_KEEP_S:,} s",
        f"Grants last {limits.GRANT_S} s; nodes allow {limits.GRANT_SLACK_S} s more",
        f"first {macs.MAC_BYTES} bytes of keyed BLAKE3",
    ],
)
def test_numbers_are_those_of_the_code(statement: str) -> None:
    assert statement in PROSE


def test_the_parts_of_an_incarnation_are_as_documented() -> None:
    assert f"| {NONCE_BITS} and up |" in TEXT
    assert f"| 0 to {NONCE_BITS - 1} |" in TEXT

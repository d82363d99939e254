"""The wire format: every message comes back as it was, old bytes stay readable, and nonsense is refused.

``tests/golden/protocol_v2.json`` holds the bytes of one instance of each message, operation and answer. When a change of
the format is meant (a field appended with a default), run this file as a script and put its output there.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core import Message
from actors.errors import ProtocolError
from dsa_zmq.protocol import messages, operations, values, volumes
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import AnyMessage
from dsa_zmq.protocol.operations import Operation, Result

GOLDEN = Path(__file__).parents[1] / "golden" / "protocol_v2.json"
GOLDEN_1 = GOLDEN.with_name("protocol_v1.json")
APPENDED_SINCE_1 = {
    ("Register", "node"), ("Register", "software"), ("NodeInfo", "software"), ("NodeInfo", "protocol"),
    ("Allocate", "degraded"), ("Stage", "degraded"), ("Commit", "degraded"),
    ("HealthReport", "catalog"), ("HealthReport", "catalog_at_risk"),
}  # fmt: skip
MESSAGES: tuple[type[Message], ...] = typing.get_args(AnyMessage)
OPERATIONS: tuple[type[values.Value], ...] = typing.get_args(Operation)
RESULTS: tuple[type[values.Value], ...] = typing.get_args(Result)
VALUES = tuple(
    cls
    for module in (values, operations, messages, volumes)
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, values.Value) and cls.__module__ == module.__name__
)

# --- instances, made from the types ------------------------------------------------------------------------------------


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if kind in SCALARS:
        return SCALARS[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return st.lists(strategy(arguments[0]), max_size=2)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([strategy(one) for one in arguments])
    return st.deferred(lambda: st.builds(kind, **{field.name: strategy(field.type) for field in fields(kind)}))


SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(1 << 63), (1 << 64) - 1),
    str: st.text(max_size=8),
    bytes: st.binary(max_size=8),
    bool: st.booleans(),
    type(None): st.none(),
}


def fields(cls: Any) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(cls)


class Examples:
    """Instances with a different value in each field, the same in every run."""

    def __init__(self, without: Collection[tuple[str, str]] = ()) -> None:
        """``without``: fields, by type and name, that are left at their defaults."""
        self._count = 0
        self._without = without

    def of(self, kind: Any) -> Any:
        if kind in (int, str, bytes, bool):
            self._count += 1
            number = self._count
            return {int: number, str: f"text {number}", bytes: bytes([number]) * 4, bool: True}[kind]
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is list:
            return [self.of(arguments[0])]
        if origin in (typing.Union, types.UnionType):
            return self.of(arguments[0])
        left = [field for field in fields(kind) if (kind.__name__, field.name) not in self._without]
        return kind(**{field.name: self.of(field.type) for field in left})


def golden_instances(without: Collection[tuple[str, str]] = ()) -> dict[str, Message]:
    def example(cls: type[Any]) -> Any:
        return Examples(without).of(cls)

    plain: dict[str, Message] = {
        cls.__name__: example(cls) for cls in MESSAGES if cls not in (messages.Calls, messages.Answers)
    }
    calls = {
        f"Calls/{cls.__name__}": messages.Calls(300, 200, [messages.Call(201, example(cls))]) for cls in OPERATIONS
    }
    answers = {f"Answers/{cls.__name__}": messages.Answers(7, [messages.Answer(201, example(cls))]) for cls in RESULTS}
    return {**plain, **calls, **answers}


def golden_bytes() -> dict[str, str]:
    return {name: CODEC.encode(message).hex() for name, message in golden_instances().items()}


# --- promises ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [*MESSAGES, *OPERATIONS, *RESULTS], ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=settings.default.max_examples // 4)  # of each of fifty types
def test_a_message_comes_back_as_it_was(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(strategy(cls))
    if cls in OPERATIONS:
        message = messages.Calls(1, 2, [messages.Call(3, message)])
    elif cls in RESULTS:
        message = messages.Answers(1, [messages.Answer(2, message)])
    encoded = CODEC.encode(message)
    assert CODEC.decode(encoded) == message
    assert CODEC.decode(memoryview(encoded)) == message


def test_the_bytes_of_every_message_are_those_of_version_2() -> None:
    assert golden_bytes() == json.loads(GOLDEN.read_text())


def test_the_bytes_of_version_1_mean_what_they_meant() -> None:
    meant = golden_instances(APPENDED_SINCE_1)
    written = {name: CODEC.decode(bytes.fromhex(text)) for name, text in json.loads(GOLDEN_1.read_text()).items()}
    assert written == {name: meant[name] for name in written}


def test_an_operation_says_since_which_version_it_is_there() -> None:
    """Older masters are not asked for it."""
    first = {name.removeprefix("Calls/") for name in json.loads(GOLDEN_1.read_text()) if name.startswith("Calls/")}
    assert {cls.__name__ for cls in OPERATIONS if cls.since == 1} == first
    assert max(cls.since for cls in OPERATIONS) <= messages.PROTOCOL_VERSION


@pytest.mark.parametrize("name", sorted(golden_instances()))
def test_fields_appended_by_a_newer_version_are_ignored(name: str) -> None:
    raw = msgspec.msgpack.decode(CODEC.encode(golden_instances()[name]))
    if name.startswith(("Calls/", "Answers/")):
        raw[-1][0][-1] += ["new", [1]]
    assert CODEC.decode(msgspec.msgpack.encode([*raw, "new", {"field": 1}])) == golden_instances()[name]


@pytest.mark.parametrize("cls", [*MESSAGES, *VALUES], ids=lambda cls: cls.__name__)
def test_fields_with_defaults_may_be_missing_and_stand_last(cls: type[msgspec.Struct]) -> None:
    required = [field.required for field in fields(cls)]
    assert required == sorted(required, reverse=True), "a field without a default behind one with a default"
    example = Examples().of(cls)
    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(example))
    tagged = cls.__struct_config__.tag is not None
    shortest = msgspec.msgpack.encode(raw[: tagged + sum(required)])
    old = msgspec.msgpack.decode(shortest, type=cls)
    for field in fields(cls):
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        assert getattr(old, field.name) == (getattr(example, field.name) if field.required else default)


def test_tags_are_unique_and_every_tagged_type_can_travel() -> None:
    defined = {
        cls
        for module in (messages, operations, values, volumes)
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, msgspec.Struct) and cls.__struct_config__.tag is not None
    }
    assert defined == {*MESSAGES, *OPERATIONS, *RESULTS}
    for family in (MESSAGES, (*OPERATIONS, *RESULTS)):
        tags = [cls.__struct_config__.tag for cls in family]
        assert len(set(tags)) == len(tags)
        assert all(type(tag) is int and 0 <= tag < 128 for tag in tags), "one byte each"


def test_everything_on_the_wire_is_a_frozen_array() -> None:
    for cls in (*MESSAGES, *VALUES):
        assert cls.__struct_config__.frozen
        assert cls.__struct_config__.array_like
        assert not cls.__struct_config__.forbid_unknown_fields, "newer versions append fields"


def test_stored_operations_are_operations() -> None:
    assert set(operations.STORED) < set(OPERATIONS)


# --- nonsense ---------------------------------------------------------------------------------------------------------

PING = CODEC.encode(messages.Ping(5))
BAD = {
    "nothing": b"",
    "no array": b"\x01",
    "empty array": b"\x90",
    "a map": b"\x81\x19\x05",
    "unknown tag": b"\x92\x63\x05",
    "tag of another family": b"\x92\x2e\x05",
    "negative tag": b"\x92\xff\x05",
    "tag as text": b"\x92\xa4Ping\x05",
    "missing field": b"\x91\x19",
    "text for a number": b"\x92\x19\xa15",
    "float for a number": b"\x92\x19\xcb@\x14\0\0\0\0\0\0",
    "nil for a number": b"\x92\x19\xc0",
    "true for a number": b"\x92\x19\xc3",
    "trailing bytes": PING + b"\0",
    "reserved code": b"\x92\x19\xc1",
    "broken text": b"\x92\x0e\xa2\xff\xfe",
    "surrogate in text": b"\x92\x0e\xa3\xed\xa0\x80",
    "bytes for text": b"\x92\x0e\xc4\x01a",
    "array of 4 billion": b"\x94\x04\0\0\xdd\xff\xff\xff\xff",
    "text of 4 billion": b"\x92\x0e\xdb\xff\xff\xff\xff",
    "bytes of 4 billion": b"\x94\x1f\xc6\xff\xff\xff\xff",
    "deep arrays": b"\x91" * 1_000_000,
    "deep arrays in a list": b"\x94\x04\0\0" + b"\x91" * 1_000_000,
    "deep arrays in a field that is ignored": b"\x9f\x19\x05" + b"\x91" * 1_000_000,
    "deep maps in a field that is ignored": b"\x9f\x19\x05" + b"\x81" * 1_000_000,
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_nonsense_is_a_protocol_error(name: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        CODEC.decode(BAD[name])
    assert len(str(refused.value)) < 300
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", sorted(golden_instances()))
def test_a_message_cut_anywhere_is_a_protocol_error(name: str) -> None:
    encoded = CODEC.encode(golden_instances()[name])
    for length in range(len(encoded)):
        with pytest.raises(ProtocolError):
            CODEC.decode(encoded[:length])


def test_a_result_is_not_taken_for_an_operation() -> None:
    answer = msgspec.msgpack.decode(msgspec.msgpack.encode(operations.Done(1)))
    with pytest.raises(ProtocolError):
        CODEC.decode(msgspec.msgpack.encode([4, 0, 0, [[1, answer]]]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(golden_bytes(), indent=1) + "\n")

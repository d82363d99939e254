"""MACs: nothing that a client could swap, cut or stretch is outside of them."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3

from dsa_zmq.errors import Invalid
from dsa_zmq.model import macs

KEY = bytes(range(32))
CLUSTER, STORE, HASH = b"c" * 16, b"s" * 16, b"h" * 32
GRANT: dict[str, Any] = {
    "cluster": CLUSTER, "node": 3, "store_id": STORE, "upload": 4, "chunk": 5, "index": 1, "length": 1 << 20,
    "expires_s": 1_700_000_000,
}  # fmt: skip
RECEIPT: dict[str, Any] = {
    "cluster": CLUSTER, "node": 3, "store_id": STORE, "incarnation": 9, "upload": 4, "chunk": 5, "index": 1,
    "shard_hash": HASH,
}  # fmt: skip


def grant(key: bytes = KEY, right: bytes = macs.WRITE, **changes: Any) -> bytes:
    return macs.grant_mac(key, right, **{**GRANT, **changes})


def receipt(key: bytes = KEY, **changes: Any) -> bytes:
    return macs.receipt_mac(key, **{**RECEIPT, **changes})


def another(value: bytes | int) -> bytes | int:
    return value + 1 if isinstance(value, int) else value[:-1] + bytes([value[-1] ^ 1])


@pytest.mark.parametrize("field", sorted(GRANT))
def test_a_grant_is_for_exactly_these_fields(field: str) -> None:
    assert grant(**{field: another(GRANT[field])}) != grant()


@pytest.mark.parametrize("field", sorted(RECEIPT))
def test_a_receipt_is_for_exactly_these_fields(field: str) -> None:
    assert receipt(**{field: another(RECEIPT[field])}) != receipt()


def test_neighbouring_fields_cannot_trade_places() -> None:
    numbers = ("node", "upload", "chunk", "length", "expires_s")
    swapped = [
        grant(**{a: GRANT[b], b: GRANT[a]}) for i, a in enumerate(numbers) for b in numbers[i + 1 :]
    ]  # all ten pairs
    assert len({grant(), *swapped}) == 11
    assert receipt(node=9, incarnation=3) != receipt()
    assert receipt(upload=5, chunk=4) != receipt()
    assert receipt(cluster=STORE, store_id=CLUSTER) != receipt()


def test_reading_is_not_writing_and_a_grant_is_no_receipt() -> None:
    assert len({grant(right=macs.READ), grant(right=macs.WRITE), receipt()}) == 3


def test_the_key_decides() -> None:
    other = bytes(reversed(KEY))
    assert grant(key=other) != grant()
    assert receipt(key=other) != receipt()


def test_node_keys_differ_by_secret_node_store_and_generation() -> None:
    keys = {
        macs.node_key(b"secret", 1, STORE, 1),
        macs.node_key(b"Secret", 1, STORE, 1),
        macs.node_key(b"secret", 2, STORE, 1),
        macs.node_key(b"secret", 1, CLUSTER, 1),
        macs.node_key(b"secret", 1, STORE, 2),
    }
    assert len(keys) == 5
    assert all(len(key) == macs.KEY_BYTES for key in keys)


def test_the_bytes_under_the_macs_are_those_of_the_documented_layout() -> None:
    def u64(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(8, "little") for number in numbers)

    grant_body = b"w" + CLUSTER + u64(3) + STORE + u64(4, 5, 1 << 20) + b"\1" + u64(1_700_000_000)
    receipt_body = b"R" + CLUSTER + u64(3) + STORE + u64(9, 4, 5) + b"\1" + HASH
    assert grant() == blake3(grant_body, key=KEY).digest()[:16]
    assert receipt() == blake3(receipt_body, key=KEY).digest()[:16]
    material = b"secret" + u64(3, 2) + STORE
    assert macs.node_key(b"secret", 3, STORE, 2) == blake3(
        material, derive_key_context="dsa-zmq 2026 node key v1"
    ).digest(32)


def test_the_format_is_fixed() -> None:
    """Pinned: a node of another version checks the same bytes."""
    assert macs.node_key(bytes(32), 1, STORE, 1).hex() == PINNED["key"]
    assert grant().hex() == PINNED["grant"]
    assert receipt().hex() == PINNED["receipt"]
    assert len(grant()) == len(receipt()) == macs.MAC_BYTES


PINNED = {
    "key": "fb82e8392269f856e7cc0d976b4921eca590a65a685ec79ebedef5eabe86b7c1",
    "grant": "32f35599ecdb0f3d4b01133eb0473bdc",
    "receipt": "83908c4d45a635fee4bdbf7e00a10e8a",
}


@pytest.mark.parametrize(
    "changes",
    [{"chunk": -1}, {"chunk": 1 << 64}, {"index": 256}, {"index": -1}, {"node": -1}, {"expires_s": -1}, {"length": 1 << 64},
     {"cluster": b"c" * 15}, {"cluster": b"c" * 17}, {"store_id": b""}],
)  # fmt: skip
def test_a_grant_field_that_cannot_be_packed_is_the_senders_fault(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        grant(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"incarnation": -1}, {"upload": 1 << 64}, {"index": 300}, {"shard_hash": HASH + b"x"}, {"shard_hash": HASH[:-1]},
     {"shard_hash": b""}, {"store_id": STORE * 2}],
)  # fmt: skip
def test_a_receipt_field_that_cannot_be_packed_is_the_senders_fault(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        receipt(**changes)


def test_comparison() -> None:
    assert macs.same(grant(), grant())
    assert not macs.same(grant(), receipt())
    assert not macs.same(grant(), grant()[:-1])
    assert not macs.same(grant(), b"")

"""What is known of the copies of one chunk, and when it is hopeless to go on."""

from __future__ import annotations

from dsa_zmq.client.copies import Copies
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.protocol.values import ChunkPlaces, Place


def row(*nodes: int) -> ChunkPlaces:
    return ChunkPlaces(7, 100, b"h" * 32, [Place(node, index, b"") for index, node in enumerate(nodes)])


def fail_all(copies: Copies, code: str) -> None:
    while copies.next(Suspicion(), 0) is not None:
        copies.fail(copies.asked[0], code)
    copies.rest(0)


def test_damage_in_two_looks_at_the_catalog_is_enough() -> None:
    copies = Copies(row(1, 2), 0)
    fail_all(copies, "corrupt")
    assert not copies.hopeless
    copies.renew(row(1, 2), 0)
    fail_all(copies, "corrupt")
    assert copies.hopeless


def test_damage_that_the_catalog_has_learned_of_meanwhile_is_damage_too() -> None:
    """Its places are named no more."""
    copies = Copies(row(1, 2), 0)
    fail_all(copies, "corrupt")
    copies.renew(row(), 0)
    fail_all(copies, "")
    assert copies.hopeless


def test_two_looks_at_a_catalog_that_knows_nobody_are_enough() -> None:
    copies = Copies(row(), 0)
    copies.rest(0)
    assert not copies.hopeless
    copies.renew(row(), 0)
    copies.rest(0)
    assert copies.hopeless


def test_a_node_that_does_not_answer_may_have_a_good_copy() -> None:
    copies = Copies(row(1, 2), 0)
    for _ in range(5):
        copies.next(Suspicion(), 0)
        copies.fail(1, "corrupt")
        copies.next(Suspicion(), 0)
        copies.fail(2, "unavailable")
        copies.rest(0)
        copies.renew(row(2), 0)
    assert not copies.hopeless

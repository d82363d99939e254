"""After a restore nothing is dropped before all that is up was compared; what is removed is kept for the history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsa_zmq.master.catalog.garbage_plan import GarbageCounts
from dsa_zmq.master.garbage import in_words
from dsa_zmq.master.reconciling import UNKNOWN_KEEP_NS, Reconciling, keeps_unknown
from dsa_zmq.master.settings import MasterSettings

THEN = 5_000


def test_a_catalog_that_was_never_restored_spares_nothing():
    assert not Reconciling(0).spares([1, 2], 0)
    assert not keeps_unknown(0, 0)


def test_every_node_that_is_up_has_to_be_compared_once():
    made = Reconciling(THEN)
    assert made.spares([1, 2], THEN)
    made.compared(1)
    assert made.spares([1, 2], THEN)
    assert not made.spares([1], THEN), "the other one is down"
    made.compared(2)
    assert not made.spares([1, 2], THEN)
    assert made.spares([1, 2, 3], THEN), "and comes later"


def test_it_ends_by_itself_after_a_week():
    made = Reconciling(THEN)
    assert made.spares([1], THEN + UNKNOWN_KEEP_NS - 1)
    assert not made.spares([1], THEN + UNKNOWN_KEEP_NS)


@pytest.mark.parametrize(
    ("copies", "grace_s", "history_s", "kept_s", "why"),
    [
        ("sync", 30.0, 3600.0, 3600.0, "restored"),
        ("async", 30.0, 60.0, 60.0, "restored"),
        ("sync", 30.0, 0.0, 30.0, "reading"),
        ("off", 30.0, 3600.0, 30.0, "reading"),
    ],
)
def test_what_was_removed_is_kept_for_readers_and_for_the_history(copies, grace_s, history_s, kept_s, why):
    settings = replace(MasterSettings(), catalog_copies=copies, gc_grace_s=grace_s, catalog_history_s=history_s)
    assert settings.kept_s == kept_s
    (line,) = in_words(GarbageCounts(names=3, contents=0, bytes=0, drops={}), {}, settings)
    assert f"each {kept_s:g} s after its end" in line
    assert why in line

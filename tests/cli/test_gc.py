"""``dsa gc``: what nobody holds goes, and what is there stays."""

from __future__ import annotations

import os

from tests.cli.conftest import Dsa


def test_a_dry_run_says_what_would_go_and_begins_nothing(dsa: Dsa) -> None:
    dsa.store.write_bytes(f"{dsa.home}/f", os.urandom(1000))
    dsa.store.rm(f"{dsa.home}/f")
    before = last_begun(dsa)
    text = dsa.ok("gc", "-n").text
    assert "removed or overwritten name" in text
    assert "to be let go, each 30 s after its end: somebody may still be reading" in text
    assert "begun" not in text
    (planned,) = dsa.ok("gc", "--dry-run", "--json").objects
    assert set(planned) == {"shards", "bytes", "lines", "begun"}
    assert planned["begun"] is False
    assert "30 s after its end" in planned["lines"][0]
    assert last_begun(dsa) == before


def test_a_round_is_begun_without_a_question_and_touches_nothing_that_can_be_read(dsa: Dsa) -> None:
    data = os.urandom(1000)
    dsa.store.write_bytes(f"{dsa.home}/kept", data)
    dsa.store.write_bytes(f"{dsa.home}/removed", os.urandom(1000))
    dsa.store.rm(f"{dsa.home}/removed")
    before = last_begun(dsa)
    (told,) = dsa.ok("--json", "gc").objects
    assert told["begun"] is True
    assert last_begun(dsa) > before
    ran = dsa.ok("gc")
    assert ran.text.splitlines()[-1] == "begun; it goes on in the background"
    assert ran.err == ""
    assert dsa.tree() == {"kept": data}


def last_begun(dsa: Dsa) -> int:
    """The number of the last round that somebody has begun, 0 if nobody has."""
    tasks = dsa.ok("tasks", "--json").objects
    return max((task["task"] for task in tasks if task["kind"] == "gc"), default=0)

"""Redundancy: a name, a number of shards, and nothing in between."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Invalid
from dsa_zmq.model.redundancy import DEFAULT, MAX_COPIES, Redundancy, parse_redundancy


@pytest.mark.parametrize("copies", range(1, MAX_COPIES + 1))
def test_copies_read_back_by_their_name(copies: int) -> None:
    redundancy = parse_redundancy(f"copies={copies}")
    assert redundancy == Redundancy(shards=copies, needed=1)
    assert redundancy.name == f"copies={copies}"
    assert redundancy.tolerates == copies - 1
    assert redundancy.stored_bytes(1000) == 1000 * copies


def test_the_default_survives_one_loss() -> None:
    assert parse_redundancy(DEFAULT).tolerates == 1


@pytest.mark.parametrize(
    "text", ["", "2", "copies", "copies=0", "copies=02", "copies=17", "copies=-1", "copies=2 ", "Copies=2", "copies=٢"]
)
def test_anything_else_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_redundancy(text)
    assert "copies=2" in refused.value.remedy

"""What a restore does with copies that are damaged: what they may have had behind that is not given up in silence."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.errors import Corrupt
from dsa_zmq.model.records import CHANGES
from dsa_zmq.model.volumes import read_records
from dsa_zmq.protocol.volumes import VolumeState
from tests.sim.inn import Inn, Lost, state_of


@pytest.fixture
def lost() -> Lost:
    return Lost()


def damage(inn: Inn, name: str, back: int) -> int:
    """The node has found so many records at the end of its copy to be unusable; the last position that is left."""
    records = lost_records(inn)
    data = inn.guests[name].volumes[2]
    sound = data[: data.index(records[-back])]
    inn.guests[name].volumes[2] = sound
    inn.guests[name].states[2] = msgspec.structs.replace(state_of(sound), damage="damaged at byte 7")
    return inn.guests[name].states[2].position


def lost_records(inn: Inn) -> list[bytes]:
    data = next(iter(inn.guests.values())).volumes[2]
    return [record.data for _, record in read_records(data) if record.kind == CHANGES]


def test_one_damaged_copy_of_three_is_no_loss(lost: Lost) -> None:
    inn = lost.inn()
    damage(inn, "n1", 4)
    inn.start()
    plan = inn.planned()
    assert (plan.preview.position, plan.damaged) == (lost.scribe.position, ["n1"])


def test_what_damaged_copies_may_have_had_is_not_given_up_in_silence(lost: Lost) -> None:
    """Each says that there was more. Two together may have made it safe, and so may one with one that is absent."""
    inn = lost.inn("n0", "n1")
    inn.guests["n1"].volumes.clear()
    damage(inn, "n0", 4)
    inn.start(without=["n2"])
    with pytest.raises(Corrupt, match=r"on n0 are damaged: changes behind .* may have been acknowledged") as error:
        inn.planned()
    assert "--older" in error.value.remedy
    assert inn.guests["n0"].promised == []
    inn.start(without=["n2"], older=True)
    plan = inn.planned()
    assert (plan.damaged, plan.absent) == (["n0"], ["n2"])
    inn.go()


def test_an_older_volume_is_not_taken_in_silence_for_newer_ones_that_are_damaged(lost: Lost) -> None:
    inn = lost.inn()
    for guest in inn.guests.values():
        guest.volumes[2] = b""
        guest.states[2] = VolumeState(2, damage="damaged at byte 0")
    inn.start()
    with pytest.raises(Corrupt, match="n0, n1, n2 are damaged"):
        inn.planned()


def test_damage_behind_the_moment_that_is_wanted_does_not_matter(lost: Lost) -> None:
    inn = lost.inn()
    left = [damage(inn, name, 4) for name in ("n0", "n1", "n2")]
    position = max(position for position in lost.scribe.as_of if position < min(left))
    inn.start(at_ns=lost.scribe.walls[position])
    assert inn.planned().preview.position == position

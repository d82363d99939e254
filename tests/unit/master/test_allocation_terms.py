"""An upload goes on as it began, also under a later master, until it has ended or the horizon has passed it."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Invalid, Outdated, Overloaded
from dsa_zmq.master import uploads as uploads_module
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.protocol.operations import Reallocate
from dsa_zmq.protocol.values import PlacedShard
from tests.unit.master.conftest import LEASE_NS, MIB, TERM, Desk


def test_an_upload_goes_on_with_the_redundancy_that_it_began_with() -> None:
    desk = Desk()
    upload = desk.allocate("copies=3").upload
    again = desk.allocate("copies=1", upload=upload, redundancy="copies=1", now=5)
    assert again.upload == upload
    assert (again.redundancy, len(again.chunks[0].places)) == ("copies=3", 3)


def test_an_upload_of_an_earlier_term_is_adopted_with_the_redundancy_it_names() -> None:
    old = id_floor(TERM) - 5
    desk = Desk()
    with pytest.raises(Invalid, match="redundancy"):
        desk.allocate(upload=old)
    assert desk.allocate(upload=old, redundancy="copies=3").redundancy == "copies=3"
    assert desk.allocate(upload=old).redundancy == "copies=3"
    desk.uploads.adopt([old - 1], 0)
    assert desk.allocate(upload=old - 1, redundancy="copies=1").redundancy == "copies=1"


def test_an_upload_of_this_term_that_has_ended_is_refused() -> None:
    desk = Desk()
    upload = desk.allocate().upload
    desk.uploads.end(upload)
    with pytest.raises(Outdated, match="ended"):
        desk.allocate(upload=upload, redundancy="copies=2")
    with pytest.raises(Outdated, match="ended"):
        desk.reallocate(Reallocate(upload, [PlacedShard(id_floor(TERM) + 1, 0, 1)], [5], [[]]))


def test_an_upload_of_an_earlier_term_is_believed_only_until_the_horizon_has_passed_it() -> None:
    old = id_floor(TERM) - 5
    desk = Desk()
    span = LEASE_NS + GRANT_S * 10**9
    desk.allocator.advance_horizon(span - 1)
    assert desk.allocate(upload=old, redundancy="copies=2").upload == old
    assert desk.allocator.advance_horizon(span) == old
    desk.uploads.end(old)
    assert desk.allocator.advance_horizon(span + 1) == id_floor(TERM)
    with pytest.raises(Outdated, match="ended"):
        desk.allocate(upload=old, redundancy="copies=2")


def test_an_upload_of_an_earlier_term_whose_client_only_renews_its_lease_is_in_progress() -> None:
    old = id_floor(TERM) - 5
    desk = Desk()
    span = LEASE_NS + GRANT_S * 10**9
    assert desk.allocator.renew(old, 0)
    desk.allocator.advance_horizon(span - 1)
    assert desk.allocator.renew(old, span - 1)
    assert desk.allocator.advance_horizon(span) == old
    assert desk.allocate(upload=old, redundancy="copies=3").redundancy == "copies=3"


def test_renewing_what_has_ended_or_never_was_begins_nothing() -> None:
    desk = Desk()
    ended = desk.allocate().upload
    desk.uploads.end(ended)
    assert not any(desk.allocator.renew(upload, 0) for upload in (ended, 0, -1, 12345, id_floor(1) - 1, 1 << 63))
    assert len(desk.uploads) == 0


def test_uploads_of_earlier_terms_are_bounded_in_number_however_they_speak_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_UPLOADS", 3)
    desk = Desk()
    old = id_floor(TERM) - 9
    for upload in (old, old + 1, old + 2):
        desk.allocator.renew(upload, 0)
    with pytest.raises(Overloaded):
        desk.allocator.renew(old + 3, 0)
    with pytest.raises(Overloaded):
        desk.reallocate(Reallocate(old + 3, [PlacedShard(old, 0, 1)], [MIB], [[]]))
    assert len(desk.uploads) == 3

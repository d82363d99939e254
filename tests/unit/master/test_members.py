"""The members' state machine against a model of what was heard and when."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.liveness import Sign
from dsa_zmq.master.catalog.jobs import NodeRow
from dsa_zmq.master.members import DOWN, FAILED, SUSPECT, UP, Members
from dsa_zmq.model.ids import NONCE_BITS, next_incarnation
from dsa_zmq.model.upkeep import Standing
from tests.unit.master.conftest import (
    DOWN_NS,
    SUSPECT_NS,
    heartbeat,
    node_row,
    peer_of,
    registered,
    registration,
)

LATER = 2 << NONCE_BITS  #: an incarnation of the second start
NONCES = st.sampled_from((0, 0xABC, (1 << NONCE_BITS) - 1))


class MembersMachine(RuleBasedStateMachine):
    """Nodes start, speak, fall silent and fail in any order; the model knows only what was said last and when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.members = Members(SUSPECT_NS, DOWN_NS)
        self.rows: dict[int, NodeRow] = {}
        self.heard: dict[int, int] = {}
        self.spoke: set[int] = set()
        self.connected: set[int] = set()
        self.failure: dict[int, str] = {}

    @initialize(known=st.integers(0, 3))
    def start(self, known: int) -> None:
        self.rows = {node: node_row(node) for node in range(1, known + 1)}
        self.heard = dict.fromkeys(self.rows, 0)
        self.members.load([*self.rows.values(), node_row(9, name="gone", removed=True)], 0)

    @rule(delay=st.integers(0, 60))
    def wait(self, delay: int) -> None:
        self.now += delay

    @rule(node=st.integers(1, 4), newer=st.booleans(), nonce=NONCES)
    def register(self, node: int, newer: bool, nonce: int) -> None:
        row = self.rows.get(node, node_row(node))
        if newer:
            row = msgspec.structs.replace(row, incarnation=next_incarnation(row.incarnation, nonce))
        before = self.rows.get(node)
        earlier = self.members.register(row, peer_of(row), registration(row), self.now)
        replaced = before is not None and node in self.connected and before.incarnation < row.incarnation
        assert earlier == (peer_of(before) if replaced and before is not None else None)
        self.rows[node] = row
        self.heard[node] = self.now
        self.failure[node] = ""
        self.spoke.add(node)
        self.connected.add(node)

    @rule(
        node=st.integers(1, 5),
        step=st.sampled_from((-1, 0, 0, 0, 1)),
        nonce=st.none() | NONCES,
        failure=st.sampled_from(("", "", "EIO")),
    )
    def beat(self, node: int, step: int, nonce: int | None, failure: str) -> None:
        """Of another start, of another process of this start, or (without ``step`` and ``nonce``) of the node itself."""
        row = self.rows.get(node, node_row(node))
        incarnation = row.incarnation + (step << NONCE_BITS)
        if nonce is not None:
            incarnation = next_incarnation(incarnation - (1 << NONCE_BITS), nonce)
        message = heartbeat(row, incarnation=incarnation, failure=failure, free=-5, used=10**30)
        sign = self.members.heartbeat(message, self.now)
        if node not in self.rows:
            assert sign is Sign.UNKNOWN
        else:
            same_start = Sign.CURRENT if incarnation == row.incarnation else Sign.OLDER
            assert sign is {-1: Sign.OLDER, 0: same_start, 1: Sign.NEWER}[step]
        if sign is Sign.CURRENT:
            self.heard[node] = self.now
            self.spoke.add(node)
            self.failure[node] = failure

    def expected(self, node: int) -> str:
        silence = self.now - self.heard[node]
        if silence >= DOWN_NS:
            return DOWN
        if silence >= SUSPECT_NS or node not in self.spoke or node not in self.connected:
            return SUSPECT
        return FAILED if self.failure.get(node) else UP

    @invariant()
    def agrees(self) -> None:
        self.members.check_invariants()
        assert {state.row.node for state in self.members} == set(self.rows)
        for node in self.rows:
            assert self.members.state(node, self.now) == self.expected(node)
            assert self.members.standing(node, self.now).counts == (self.expected(node) in (UP, SUSPECT))
        assert [state.row.node for state in self.members.up(self.now)] == sorted(
            node for node in self.rows if self.expected(node) == UP
        )
        assert self.members.down(self.now) == {node for node in self.rows if self.expected(node) == DOWN}
        for since in (-1, self.now - 30):
            expected = all(
                node in self.connected and node in self.spoke and self.heard[node] > since for node in self.rows
            )
            assert self.members.all_heard(since) == expected

    @invariant()
    def a_look_tells_every_change_once(self) -> None:
        self.members.look(self.now)
        assert self.members.look(self.now) == []


TestMembers = MembersMachine.TestCase
TestMembers.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_a_replaced_store_of_the_same_name_leaves_the_table() -> None:
    old = node_row(1)
    members = registered(old, node_row(2))
    new = node_row(7, name=old.name)
    members.register(new, peer_of(new), registration(new), 5)
    assert sorted(state.row.node for state in members) == [2, 7]
    members.check_invariants()


def test_a_connection_speaks_for_the_last_node_that_it_claimed_to_be() -> None:
    members = registered(node_row(1))
    other = node_row(2)
    members.register(other, peer_of(node_row(1)), registration(other), 5)
    members.check_invariants()
    state = members.by_peer(peer_of(node_row(1)))
    assert state is not None
    assert state.row.node == 2


def test_a_copied_directory_meets_its_living_original_as_a_rival_and_a_restarted_node_does_not() -> None:
    row = node_row(1)
    members = registered(row)
    copied = registration(row, path="/copy", incarnation=LATER)
    assert members.rival(copied, 10) is not None
    assert members.rival(copied, DOWN_NS) is None
    assert members.rival(registration(row, incarnation=LATER), 10) is None
    assert members.rival(registration(node_row(2)), 10) is None


def test_another_store_under_a_living_node_s_name_has_a_rival() -> None:
    members = registered(node_row(1))
    assert members.rival(registration(node_row(2, name="n1")), 10) is not None


def test_another_store_in_a_node_s_place_has_to_wait_until_that_node_is_silent() -> None:
    members = registered(node_row(1))
    other = registration(node_row(1), store_id=b"x" * 16)
    assert members.rival(other, 0) is None
    assert members.lingers(other, SUSPECT_NS - 1)
    assert not members.lingers(other, SUSPECT_NS)
    assert not members.lingers(registration(node_row(1), incarnation=LATER), 0)
    assert not members.lingers(registration(node_row(2)), 0)
    unheard = Members(SUSPECT_NS, DOWN_NS)
    unheard.load([node_row(1)], 0)
    assert unheard.lingers(other, SUSPECT_NS - 1)
    assert not unheard.lingers(other, SUSPECT_NS)


def test_right_after_a_start_an_unheard_original_may_still_live() -> None:
    row = node_row(1)
    members = Members(SUSPECT_NS, DOWN_NS)
    members.load([row], 0)
    copied = registration(row, host="elsewhere", incarnation=LATER)
    assert members.may_have_rival(copied, DOWN_NS - 1)
    assert not members.may_have_rival(copied, DOWN_NS)
    assert not members.may_have_rival(registration(row, incarnation=LATER), 0)
    members.heartbeat(heartbeat(row), 5)
    assert not members.may_have_rival(copied, 6)
    assert members.rival(copied, 6) is not None


def test_a_draining_node_may_not_keep_anything_and_is_no_other_way_spared() -> None:
    members = registered(node_row(1, draining=True), node_row(2), node_row(3, draining=True))
    members.heartbeat(heartbeat(node_row(3), failure="EIO"), 1)
    assert members.standings(1) == {1: Standing.LEAVES, 2: Standing.KEEPS, 3: Standing.FAILED}
    assert members.standings(DOWN_NS + 1) == dict.fromkeys((1, 2, 3), Standing.AWAY)
    assert members.standing(4, 1) is Standing.AWAY, "one that was removed"


def test_nodes_are_described_by_name_with_what_they_said_last() -> None:
    members = registered(node_row(2), node_row(1))
    members.heartbeat(heartbeat(node_row(1), failure="EIO"), 3_000_000)
    first, second = members.describe(3_000_000)
    assert (first.name, second.name) == ("n1", "n2")
    assert (first.used, first.free, first.shards, first.failure) == (200, 800, 3, "EIO")
    assert (second.used, second.free, second.silent_ms) == (100, 900, 3)

"""Plans: what they promise follows from who holds what, and what cannot be done is refused with what would help."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.master.plans import (
    Cluster,
    Held,
    PlannedNode,
    is_uneven,
    plan_drain,
    plan_rebalance,
    plan_remove,
    shares,
    surplus,
)
from dsa_zmq.model.upkeep import Standing

GB = 10**9
MB = 10**6


def node(number: int, held: int = 0, **changes: Any) -> PlannedNode:
    values: dict[str, Any] = {
        "node": number, "name": f"n{number}", "standing": Standing.KEEPS, "zone": "", "host": f"h{number}",
        "capacity": 100 * GB, "room": 50 * GB, "shards": held // MB, "bytes": held,
    }  # fmt: skip
    return PlannedNode(**{**values, **changes})


def cluster(*nodes: PlannedNode, held: list[Held] | None = None, root: str = "copies=2") -> Cluster:
    return Cluster(nodes, [Held("copies=2", "1;2", 1000, 1 * GB)] if held is None else held, root, 100 * MB)


def test_a_drain_says_what_goes_where_and_how_long_it_takes() -> None:
    seen = cluster(node(1, GB), node(2, GB), node(3), node(4))
    plan = plan_drain(seen, seen.nodes[0])
    assert plan.refusal is None
    assert (plan.moves, plan.bytes, plan.seconds) == (1000, GB, 10)
    assert plan.lines[0] == "copy 1,000 shards with 1.0 GB from 'n1' to 'n2', 'n3' and 'n4', in about 10 s"


def test_a_drain_that_leaves_too_few_nodes_or_too_little_room_is_refused() -> None:
    two = cluster(node(1, GB), node(2, GB))
    why = plan_drain(two, two.nodes[0]).refusal
    assert why is not None
    assert why.code == "too-few-nodes"
    assert "add 1 node" in why.remedy
    full = cluster(node(1, 4 * GB), node(2, 4 * GB, room=GB), node(3, room=2 * GB))
    why = plan_drain(full, full.nodes[0]).refusal
    assert why is not None
    assert why.code == "no-space"
    assert why.message == "4.0 GB on the others are needed, 3.0 GB are free there"


@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.FAILED, Standing.SILENT])
def test_a_node_that_is_not_up_cannot_be_emptied(standing: Standing) -> None:
    seen = cluster(node(1, GB, standing=standing), node(2, GB), node(3))
    why = plan_drain(seen, seen.nodes[0]).refusal
    assert why is not None
    assert why.code == "unavailable"


def test_nodes_that_leave_take_nothing_from_another_that_is_emptied() -> None:
    seen = cluster(node(1, GB), node(2, GB), node(3, standing=Standing.LEAVES))
    why = plan_drain(seen, seen.nodes[0]).refusal
    assert why is not None
    assert why.code == "too-few-nodes"


def test_the_risk_of_a_drain_is_said() -> None:
    held = [Held("copies=2", "1;2", 10, GB), Held("copies=2", "1", 3, GB)]
    nodes = (node(1, GB, zone="a"), node(2, GB, zone="b"), node(3, zone="b"))
    seen = cluster(*nodes, held=held, root="copies=3")
    text = "\n".join(plan_drain(seen, seen.nodes[0]).lines)
    assert "3 chunks can be read from 'n1' alone" in text
    assert "copies share a zone" in text
    assert "new files with copies=3 need 3 nodes; 2 would be left" in text


def test_a_removal_is_refused_while_the_node_runs_or_has_the_last_of_anything() -> None:
    held = [Held("copies=2", "1;2", 10, GB), Held("copies=2", "1", 3, 3 * MB)]
    runs = cluster(node(1, GB), node(2, GB), held=held)
    why = plan_remove(runs, runs.nodes[0], "").refusal
    assert why is not None
    assert why.message == "node 'n1' runs"
    gone = cluster(node(1, GB, standing=Standing.AWAY), node(2, GB), held=held)
    plan = plan_remove(gone, gone.nodes[0], "")
    assert plan.refusal is not None
    assert plan.refusal.message == "3 chunks with 3.0 MB can be read from 'n1' alone"
    forced = plan_remove(gone, gone.nodes[0], "lost")
    assert forced.refusal is None
    assert "LOST: 3 chunks with 3.0 MB cannot be read any more" in forced.lines
    assert "10 chunks lack the shard that it holds; what is missing is made anew on the others" in forced.lines


def test_what_was_lost_already_is_not_lost_by_a_removal_of_another() -> None:
    held = [Held("copies=2", "1;2", 10, GB)]
    seen = cluster(*(node(number, standing=Standing.AWAY) for number in (1, 2, 3)), held=held)
    assert plan_remove(seen, seen.nodes[2], "").refusal is None


def test_a_new_node_gets_its_share() -> None:
    seen = cluster(*(node(number, 8 * GB) for number in (1, 2, 3, 4)), node(5), held=[Held("copies=2", "", 1, 16 * GB)])
    assert surplus(seen, 0.05) == pytest.approx(dict.fromkeys((1, 2, 3, 4), 1.6 * GB))
    plan = plan_rebalance(seen, 0.05)
    assert (plan.bytes, plan.moves) == (6.4 * GB, 6400)
    assert "'n5': 0.0 % of its capacity now, 6.4 % then" in plan.lines


def test_what_is_filled_alike_is_left_alone() -> None:
    held = [Held("copies=2", "", 1, 13 * GB)]
    seen = cluster(node(1, 10 * GB), node(2, 10 * GB + 400 * MB), node(3, 5 * GB, capacity=50 * GB), held=held)
    assert surplus(seen, 0.05) == {}
    assert plan_rebalance(seen, 0.05).lines == ["nothing to do: all nodes are filled alike"]
    assert not is_uneven(seen, 0.2)


def test_a_few_files_are_never_uneven_enough_to_move_unasked() -> None:
    seen = cluster(node(1, GB), node(2, GB), node(3))
    assert surplus(seen, 0.05)
    assert not is_uneven(seen, 0.2)
    assert is_uneven(cluster(node(1, 60 * GB), node(2, 60 * GB), node(3), held=[Held("copies=2", "", 1, 60 * GB)]), 0.2)


def test_no_node_is_to_hold_two_shards_of_a_chunk_however_large_it_is() -> None:
    held = [Held("copies=2", "1;2", 10, 10 * GB)]
    seen = cluster(node(1, 10 * GB, capacity=1000 * GB), node(2, 10 * GB), node(3), held=held)
    assert shares(seen) == pytest.approx({1: 10 * GB, 2: 5 * GB, 3: 5 * GB})


SIZES = st.integers(0, 10**12)


@given(st.lists(st.tuples(SIZES, st.integers(1, 10**13)), min_size=1, max_size=8), SIZES)
def test_shares_add_up_to_what_is_held_unless_nothing_can_hold_it(nodes: list[tuple[int, int]], most: int) -> None:
    planned = [node(number, held, capacity=capacity) for number, (held, capacity) in enumerate(nodes, 1)]
    wanted = shares(cluster(*planned, held=[Held("copies=2", "", 1, most)]))
    total = sum(held for held, _ in nodes)
    assert sum(wanted.values()) == pytest.approx(min(total, most * len(nodes)))
    assert all(size <= most * (1 + 1e-9) for size in wanted.values())

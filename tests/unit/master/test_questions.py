"""What nodes are asked about their shards: each inquiry ends, and only words on the question that is out count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.master.questions import LOOKED_UP_AT_ONCE, READ_AT_ONCE, RETRY_FIRST_NS, RETRY_MAX_NS, Questions
from dsa_zmq.protocol.messages import ABSENT, DAMAGED, GOOD, UNREADABLE, Examined
from dsa_zmq.protocol.values import PlacedShard, ShardRef


def on(node: int, *chunks: int) -> list[PlacedShard]:
    return [PlacedShard(chunk, 0, node) for chunk in chunks]


def say(questions: Questions, node: int, number: int, *states: int) -> list[list[int]]:
    """The states of the inquiries that end with this answer."""
    answered = questions.answered(node, Examined(number, list(states)))
    assert answered is not None
    return [inquiry.states for inquiry in questions.settle(answered)]


def test_an_inquiry_ends_with_the_words_of_all_its_nodes_in_its_own_order() -> None:
    questions = Questions(7)
    questions.begin([*on(2, 10), *on(1, 10, 11), *on(2, 12)], True)
    first, second = questions.next(1, 0), questions.next(2, 0)
    assert first is not None
    assert second is not None
    assert (first.term, first.read, first.shards) == (7, True, [ShardRef(10, 0), ShardRef(11, 0)])
    assert questions.nodes() == [1, 2]
    assert say(questions, 2, second.number, ABSENT, GOOD) == []
    assert say(questions, 1, first.number, DAMAGED, UNREADABLE) == [[ABSENT, DAMAGED, UNREADABLE, GOOD]]
    assert (questions.next(1, 0), questions.next(2, 0), len(questions), questions.nodes()) == (None, None, 0, [])


def test_the_answer_to_what_is_not_out_counts_for_nothing() -> None:
    questions = Questions(1)
    questions.begin(on(1, 10), False)
    question = questions.next(1, 0)
    assert question is not None
    number = question.number
    for node, message in [
        (2, Examined(number, [ABSENT])),
        (1, Examined(number + 1, [ABSENT])),
        (1, Examined(number - 1, [ABSENT])),
        (1, Examined(0, [ABSENT])),
        (1, Examined(number, [])),
        (1, Examined(number, [ABSENT, ABSENT])),
    ]:
        assert questions.answered(node, message) is None
    assert say(questions, 1, number, GOOD) == [[GOOD]]
    assert questions.answered(1, Examined(number, [ABSENT])) is None, "it came a second time"


def test_a_late_no_to_an_earlier_question_does_not_answer_the_next_one_on_the_same_shard() -> None:
    questions = Questions(1)
    questions.begin(on(1, 10), False)
    early = questions.next(1, 0)
    assert early is not None
    questions.again(1)  # the node is another process
    late = questions.next(1, 0)
    assert late is not None
    assert late.number > early.number
    assert late.shards == early.shards
    assert questions.answered(1, Examined(early.number, [ABSENT])) is None
    assert say(questions, 1, late.number, GOOD) == [[GOOD]]


def test_a_state_that_nobody_knows_decides_nothing() -> None:
    questions = Questions(1)
    questions.begin(on(1, 10, 11), False)
    question = questions.next(1, 0)
    assert question is not None
    assert say(questions, 1, question.number, 99, -1) == [[UNREADABLE, UNREADABLE]]


def test_an_unanswered_question_is_repeated_with_growing_pauses() -> None:
    questions = Questions(1)
    questions.begin(on(4, 10), False)
    question = questions.next(4, 0)
    now, pauses = 0, []
    for _ in range(8):
        pause = 0
        while not (again := questions.due(now + pause)):
            pause += RETRY_FIRST_NS // 2
        assert again == [(4, question)]
        now += pause
        pauses.append(pause)
    assert pauses[:3] == [RETRY_FIRST_NS, 2 * RETRY_FIRST_NS, 4 * RETRY_FIRST_NS]
    assert pauses[-1] == RETRY_MAX_NS


def test_one_question_is_out_at_a_time_and_is_of_one_kind_and_size() -> None:
    questions = Questions(1)
    questions.begin(on(1, *range(READ_AT_ONCE + 1)), True)
    questions.begin(on(1, *range(LOOKED_UP_AT_ONCE + 1)), False)
    sizes = []
    while (question := questions.next(1, 0)) is not None:
        assert questions.next(1, 0) is None
        sizes.append((question.read, len(question.shards)))
        say(questions, 1, question.number, *[GOOD] * len(question.shards))
        questions.check_invariants()
    assert sizes == [(True, READ_AT_ONCE), (True, 1), (False, LOOKED_UP_AT_ONCE), (False, 1)]


def test_of_a_node_that_is_gone_nothing_is_known() -> None:
    questions = Questions(1)
    questions.begin([*on(1, 10), *on(2, 11)], True)
    questions.begin(on(1, 12), False)
    questions.next(1, 0)
    second = questions.next(2, 0)
    assert second is not None
    assert [inquiry.states for inquiry in questions.give_up(1)] == [[UNREADABLE]]
    assert say(questions, 2, second.number, GOOD) == [[UNREADABLE, GOOD]]
    assert questions.give_up(3) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), max_size=6)),
            st.tuples(st.sampled_from(["next", "say", "again", "gone"]), st.integers(1, 3)),
        ),
        max_size=30,
    )
)
def test_every_inquiry_ends_once_and_knows_what_was_said(steps: list[tuple[str, object]]) -> None:
    questions = Questions(1)
    asked: dict[int, list[tuple[int, int]]] = {}
    ended: dict[int, list[int]] = {}
    out: dict[int, object] = {}

    def end(inquiries: object) -> None:
        for inquiry in inquiries:  # type: ignore[attr-defined]
            assert inquiry.serial not in ended
            ended[inquiry.serial] = inquiry.states

    for step, what in [*steps, *((step, node) for _ in range(40) for step in ("next", "say") for node in (1, 2, 3))]:
        match step:
            case "ask" if what:
                assert isinstance(what, list)
                asked[questions.begin([PlacedShard(chunk, 0, node) for node, chunk in what], False)] = what
            case "next":
                out[what] = questions.next(what, 0) or out.get(what)  # type: ignore[arg-type, index]
            case "say" if out.get(what) is not None:  # type: ignore[call-overload]
                question = out.pop(what)  # type: ignore[call-overload]
                states = [shard.chunk % 3 for shard in question.shards]
                answered = questions.answered(what, Examined(question.number, states))  # type: ignore[arg-type]
                if answered is not None:
                    end(questions.settle(answered))
            case "again":
                questions.again(what)  # type: ignore[arg-type]
            case "gone":
                end(questions.give_up(what))  # type: ignore[arg-type]
        questions.check_invariants()
    assert ended.keys() == asked.keys()
    for serial, states in ended.items():
        said = zip(states, asked[serial], strict=True)
        assert all(state in (UNREADABLE, chunk % 3) for state, (_, chunk) in said)

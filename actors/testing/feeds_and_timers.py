"""Conformance: PUB and SUB sockets, timers and clocks."""

# Scripts are lambdas for brevity, also where what they call returns nothing.
# mypy: disable-error-code=func-returns-value

from __future__ import annotations

import itertools

from actors.core import Address, Channel, Context
from actors.testing.probe import Harness, Note, Probe, Running, again_until, start_probe

MS = 1_000_000  #: nanoseconds


class FeedConformance:
    """PUB and SUB sockets, bound and joined."""

    def test_a_joined_subscriber_hears_a_bound_publisher(self, harness: Harness) -> None:
        publisher = start_probe(harness, "publisher", publish=harness.listen_at(), incarnation=5)
        subscriber = start_probe(harness, "subscriber")
        self._join(harness, publisher, subscriber, Note(1), subscribe_to=publisher.endpoint("publish"))
        sender = subscriber.probe.messages[0].sender
        assert (sender.name, sender.incarnation, sender.channel) == ("publisher", 5, Channel.FEED)

    def test_a_joined_publisher_is_heard_by_a_bound_subscriber(self, harness: Harness) -> None:
        subscriber = start_probe(harness, "subscriber", subscribe=harness.listen_at())
        publishers = [start_probe(harness, f"publisher-{number}") for number in range(3)]
        for number, publisher in enumerate(publishers):
            endpoint = subscriber.endpoint("subscribe")
            self._join(harness, publisher, subscriber, Note(number), publish_to=endpoint)
        heard = {received.sender.name: received.number for received in subscriber.probe.messages}
        assert heard == {"publisher-0": 0, "publisher-1": 1, "publisher-2": 2}

    def test_joining_again_replaces_the_earlier_feed(self, harness: Harness) -> None:
        first = start_probe(harness, "first", publish=harness.listen_at())
        second = start_probe(harness, "second", publish=harness.listen_at())
        subscriber = start_probe(harness, "subscriber")
        self._join(harness, first, subscriber, Note(1), subscribe_to=first.endpoint("publish"))
        self._join(harness, second, subscriber, Note(2), subscribe_to=second.endpoint("publish"))
        heard_before = len(subscriber.probe.messages)
        for _ in range(10):
            first.do(lambda ctx: ctx.publish("topic", Note(3)))
            second.do(lambda ctx: ctx.publish("topic", Note(4)))
        harness.wait_for(lambda: 4 in subscriber.probe.numbers)
        assert 3 not in subscriber.probe.numbers[heard_before:]

    def test_a_publisher_that_joins_again_is_heard_at_its_new_place_only(self, harness: Harness) -> None:
        first = start_probe(harness, "first", subscribe=harness.listen_at())
        second = start_probe(harness, "second", subscribe=harness.listen_at())
        publisher = start_probe(harness, "publisher")
        self._join(harness, publisher, first, Note(1), publish_to=first.endpoint("subscribe"))
        self._join(harness, publisher, second, Note(2), publish_to=second.endpoint("subscribe"))
        for _ in range(10):
            publisher.do(lambda ctx: ctx.publish("topic", Note(3)))
        harness.wait_for(lambda: 3 in second.probe.numbers)
        assert 3 not in first.probe.numbers

    def test_a_publication_without_subscribers_or_sockets_is_lost_quietly(self, harness: Harness) -> None:
        publisher = start_probe(harness, "publisher", publish=harness.listen_at())
        lonely = start_probe(harness, "lonely")
        publisher.do(lambda ctx: ctx.publish("topic", Note(1)))
        lonely.do(lambda ctx: ctx.publish("topic", Note(2)))
        assert publisher.probe.peers == lonely.probe.peers == []

    @staticmethod
    def _join(harness: Harness, publisher: Running, subscriber: Running, note: Note, **to: Address) -> None:
        """Join as the keyword says, and publish until it is heard (the first publications of a new feed are lost)."""
        joining = publisher if "publish_to" in to else subscriber
        joining.do(lambda ctx: ctx.join_feed(**to))
        again_until(
            harness,
            lambda: note.number in subscriber.probe.numbers,
            lambda: publisher.do(lambda ctx: ctx.publish("topic", note)),
        )


class TimerConformance:
    """Timers and clocks."""

    def test_timers_fire_in_the_order_of_their_deadlines(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe")
        probe.do(lambda ctx: [ctx.set_timer(delay, delay * MS) for delay in (30, 10, 40, 0, 20)])
        harness.wait_for(lambda: len(probe.probe.timers) == 5)
        assert [token for token, _ in probe.probe.timers] == [0, 10, 20, 30, 40]

    def test_a_timer_is_never_early_and_fires_once(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe")
        set_at: dict[int, int] = {}

        def script(ctx: Context) -> None:
            for delay_ns in (1, 999_999, 5 * MS + 1, 20 * MS):
                set_at[delay_ns] = ctx.now_ns()
                ctx.set_timer(delay_ns, delay_ns)
            ctx.set_timer("last", 40 * MS)

        probe.do(script)
        harness.wait_for(lambda: "last" in dict(probe.probe.timers))
        fired = probe.probe.timers[:-1]
        assert len(fired) == 4
        assert all(now_ns >= set_at[delay_ns] + delay_ns for delay_ns, now_ns in fired)

    def test_setting_a_timer_again_replaces_it(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe")
        start: list[int] = []

        def script(ctx: Context) -> None:
            start.append(ctx.now_ns())
            ctx.set_timer("later", 5 * MS)
            ctx.set_timer("later", 30 * MS)
            ctx.set_timer("sooner", 10_000 * MS)
            ctx.set_timer("sooner", 5 * MS)
            ctx.set_timer("last", 50 * MS)

        probe.do(script)
        harness.wait_for(lambda: len(probe.probe.timers) >= 3)
        assert [token for token, _ in probe.probe.timers] == ["sooner", "later", "last"]
        assert dict(probe.probe.timers)["later"] >= start[0] + 30 * MS

    def test_a_cancelled_timer_does_not_fire(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe")
        probe.do(lambda ctx: [ctx.set_timer(token, 10 * MS) for token in ("a", ("b", 2), "c")])
        probe.do(lambda ctx: (ctx.cancel_timer(("b", 2)), ctx.cancel_timer("unknown"), ctx.set_timer("end", 30 * MS)))
        harness.wait_for(lambda: "end" in dict(probe.probe.timers))
        assert sorted(str(token) for token, _ in probe.probe.timers) == ["a", "c", "end"]

    def test_a_timer_may_be_set_again_when_it_fires(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe", Probe(at_timer=lambda ctx, token: ctx.set_timer(token, 2 * MS)))
        probe.do(lambda ctx: ctx.set_timer("tick", 2 * MS))
        harness.wait_for(lambda: len(probe.probe.timers) >= 5)
        times = [now_ns for _, now_ns in probe.probe.timers[:5]]
        assert all(later - earlier >= 2 * MS for earlier, later in itertools.pairwise(times))

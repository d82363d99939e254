"""Whatever a stranger sends, unpacking it raises ProtocolError or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from actors import wire
from actors.errors import MessageTooLarge, ProtocolError

LIMITS = wire.Limits(
    message_bytes=40,
    payload_bytes=60,
    payload_frames=4,
    joined_message_bytes=30,
    joined_frame_bytes=12,
    joined_payload_bytes=24,
)
REASONS = {"short", "magic", "version", "kind", "name", "message_size", "frame_count", "payload_size"}

headers = st.one_of(
    st.integers(0, wire.MAX_INCARNATION).map(wire.direct_header),
    st.builds(wire.feed_header, st.text("abc ~", min_size=1, max_size=5), st.integers(0, wire.MAX_INCARNATION)),
)


@st.composite
def joined(draw: st.DrawFn) -> bytes:
    """A message with joined payload that may go beyond the limits."""
    header = wire.direct_header(draw(st.integers(0, wire.MAX_INCARNATION)))
    payload = draw(st.lists(st.binary(max_size=14), min_size=1, max_size=5))
    (frame,) = wire.pack(header, draw(st.binary(max_size=33)), payload)
    return bytes(frame)


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A header with something after it, and perhaps a byte changed or an end cut off."""
    frame = bytearray(draw(st.one_of(joined(), st.builds(bytes.__add__, headers, st.binary(max_size=60)))))
    if draw(st.booleans()):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)))] if draw(st.booleans()) else frame)


frames_of_strangers = st.lists(st.one_of(nearly_right(), st.binary(max_size=70)), max_size=7)


def outcome(unpack: Callable[..., wire.Envelope], frames: Sequence[wire.Buffer]) -> wire.Envelope | None:
    try:
        return unpack(frames, LIMITS)
    except ProtocolError as error:
        refusal = error
    assert refusal.reason in REASONS
    assert len(str(refusal)) < 1500  # goes into a log line
    return None


@given(frames_of_strangers, st.booleans())
def test_arbitrary_frames_are_an_envelope_within_limits_or_a_protocol_error(frames: list[bytes], views: bool) -> None:
    given_frames = [memoryview(frame) for frame in frames] if views else frames
    envelope = outcome(wire.unpack, given_frames)
    if envelope is not None:
        assert len(envelope.body) <= LIMITS.message_bytes
        assert len(envelope.payload) <= LIMITS.payload_frames
        assert sum(len(frame) for frame in envelope.payload) <= LIMITS.payload_bytes
        header, body = wire.direct_header(envelope.incarnation), bytes(envelope.body)
        again = wire.pack(header, body, envelope.payload, LIMITS)
        assert again == frames or len(again) == 1, "what may be joined may also come in frames of its own"
        assert wire.unpack(again, LIMITS) == envelope
        if len(frames) == 1 and envelope.payload:
            assert again == frames
            assert sum(len(frame) for frame in envelope.payload) <= LIMITS.joined_payload_bytes
            assert len(envelope.body) <= LIMITS.joined_message_bytes


@given(frames_of_strangers, st.booleans())
def test_arbitrary_frames_are_a_feed_message_within_limits_or_a_protocol_error(
    frames: list[bytes], views: bool
) -> None:
    envelope = outcome(wire.unpack_feed, [memoryview(frame) for frame in frames] if views else frames)
    if envelope is not None:
        assert len(envelope.body) <= LIMITS.message_bytes
        assert wire.peer_name(envelope.name, envelope.incarnation)
        assert wire.feed_header(envelope.name, envelope.incarnation) + bytes(envelope.body) == frames[1]


@given(st.one_of(st.binary(max_size=300), st.from_regex(rb"[a-z]{1,5}/[0-9]{1,22}\n?", fullmatch=True)))
def test_an_arbitrary_routing_id_is_a_peer_name_or_a_protocol_error(routing_id: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert wire.peer_name(*wire.parse_peer_name(routing_id)) == routing_id


@given(st.integers(0, 50), st.lists(st.integers(0, 70), max_size=6))
def test_what_may_be_sent_may_be_read_and_nothing_else(body_bytes: int, frame_bytes: list[int]) -> None:
    header = wire.direct_header(1)
    body, payload = bytes(body_bytes), [bytes(size) for size in frame_bytes]
    try:
        frames: list[wire.Buffer] = wire.pack(header, body, payload, LIMITS)
    except MessageTooLarge:
        assert outcome(wire.unpack, [header + body, *payload]) is None
    else:
        envelope = outcome(wire.unpack, frames)
        assert envelope is not None
        assert (envelope.body, list(envelope.payload)) == (body, payload)

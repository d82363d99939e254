"""Frames to envelopes and back: what travels between two actors, apart from the encoding of the messages themselves.

A direct message is one multipart message, or, if its payload is small, a single frame with all of it::

    frame 0    header (12 bytes) + encoded message
    frame 1..  payload frames, as they are

    frame 0    header + number of payload frames (u16) + their lengths (u16 each) + encoded message + payload frames

A feed message (PUB/SUB) is two frames; a subscriber knows its sender only by what the message says::

    frame 0    topic
    frame 1    header (12 bytes) + length of the name (u8) + name + encoded message

The header is big-endian, as all numbers here: magic ``DA`` (2 bytes), version (u8), kind (u8: 1 direct, 2 feed, 3 direct
with joined payload), incarnation of the sender (u64). What is small shares a frame because a frame of its own costs as much
as a small message.

Everything that comes in is untrusted. Sizes are checked before anything is decoded, and whatever is wrong raises
:class:`~actors.errors.ProtocolError` with one of the reason words of this module, nothing else.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from actors import limits as bus_limits
from actors.core import Payload
from actors.errors import MessageTooLarge, ProtocolError

MAGIC: Final = b"DA"
VERSION: Final = 1
KIND_DIRECT: Final = 1
KIND_FEED: Final = 2
KIND_JOINED: Final = 3

_HEADER: Final = struct.Struct(">2sBBQ")
_QUICK: Final = struct.Struct(">IQ")  #: the same, with all that is known beforehand in one number
HEADER_BYTES: Final = _HEADER.size
_KIND_OFFSET: Final = 3
_COUNT: Final = struct.Struct(">H")  #: also a length
MAX_INCARNATION: Final = (1 << 64) - 1
MAX_NAME_BYTES: Final = 200  #: with a slash and an incarnation of 20 digits it fits a routing id (255 bytes)
MAX_TOPIC_BYTES: Final = 255  #: a topic is a word, not a message

SHORT: Final = "short"  #: fewer frames or bytes than a header
WRONG_MAGIC: Final = "magic"
WRONG_VERSION: Final = "version"
WRONG_KIND: Final = "kind"
WRONG_NAME: Final = "name"  #: not ``name/incarnation``
WRONG_INCARNATION: Final = "incarnation"  #: the header contradicts the peer name
MESSAGE_SIZE: Final = "message_size"
FRAME_COUNT: Final = "frame_count"
PAYLOAD_SIZE: Final = "payload_size"

_DIRECT_START, _FEED_START, _JOINED_START = (
    _QUICK.unpack(_HEADER.pack(MAGIC, VERSION, kind, 0))[0] for kind in (KIND_DIRECT, KIND_FEED, KIND_JOINED)
)
_JOINED: Final = bytes([KIND_JOINED])
_NAME = re.compile(rb"[ -.0-~]{1,200}")
_PEER_NAME = re.compile(rb"([ -.0-~]{1,200})/(0|[1-9][0-9]{0,19})")

Buffer = bytes | memoryview


class Limits(NamedTuple):
    """What is refused, on the way out (MessageTooLarge) as on the way in (ProtocolError)."""

    message_bytes: int = bus_limits.MAX_MESSAGE_BYTES
    payload_bytes: int = bus_limits.MAX_PAYLOAD_BYTES
    payload_frames: int = bus_limits.MAX_PAYLOAD_FRAMES
    joined_message_bytes: int = bus_limits.JOINED_MESSAGE_BYTES
    joined_frame_bytes: int = bus_limits.JOINED_FRAME_BYTES
    joined_payload_bytes: int = bus_limits.JOINED_PAYLOAD_BYTES


DEFAULT_LIMITS: Final = Limits()


class Envelope(NamedTuple):
    """A message that is well formed on the outside. ``body`` and ``payload`` are views of the frames, not copies."""

    incarnation: int
    body: memoryview
    payload: Sequence[memoryview] = ()
    name: str = ""  #: the sender's name; only a feed message carries it


def direct_header(incarnation: int) -> bytes:
    """The header of every direct message of one process."""
    return _HEADER.pack(MAGIC, VERSION, KIND_DIRECT, incarnation)


def feed_header(name: str, incarnation: int) -> bytes:
    """The header and name of every feed message of one process."""
    encoded = name.encode("ascii")
    return _HEADER.pack(MAGIC, VERSION, KIND_FEED, incarnation) + bytes([len(encoded)]) + encoded


def pack(header: bytes, body: bytes, payload: Payload = (), limits: Limits = DEFAULT_LIMITS) -> list[Buffer]:
    """Frames of a direct message; ``header`` is that of :func:`direct_header`.

    Large payload frames are passed on uncopied, so each must be read-only. Raises MessageTooLarge above the limits,
    TypeError for a payload frame that somebody could still write to.
    """
    if len(body) > limits.message_bytes:
        raise MessageTooLarge(f"message of {len(body)} bytes; at most {limits.message_bytes} may be sent")
    if not payload:
        return [header + body]
    if len(payload) > limits.payload_frames:
        raise MessageTooLarge(f"payload of {len(payload)} frames; at most {limits.payload_frames} may be sent")
    frames = [frame if type(frame) is bytes else _read_only(frame) for frame in payload]
    lengths = list(map(len, frames))
    size = sum(lengths)
    if size > limits.payload_bytes:
        raise MessageTooLarge(f"payload of {size} bytes; at most {limits.payload_bytes} may be sent")
    if (
        size <= limits.joined_payload_bytes
        and len(body) <= limits.joined_message_bytes
        and max(lengths) <= limits.joined_frame_bytes
    ):
        table = _table(len(frames)).pack(len(frames), *lengths)
        return [b"".join((header[:_KIND_OFFSET], _JOINED, header[_KIND_OFFSET + 1 :], table, body, *frames))]
    return [header + body, *frames]


@lru_cache(bus_limits.MAX_PAYLOAD_FRAMES)
def _table(count: int) -> struct.Struct:
    """The number of joined payload frames, and their lengths."""
    return struct.Struct(f">{1 + count}H")


def _read_only(frame: object) -> Buffer:
    """The frame as flat bytes, or TypeError: a buffer changed after the send would arrive changed."""
    if isinstance(frame, bytes):
        return frame
    if isinstance(frame, memoryview) and frame.readonly and frame.c_contiguous:
        return frame if frame.format == "B" and frame.ndim == 1 else frame.cast("B")
    kind = "a writable or strided memoryview" if isinstance(frame, memoryview) else type(frame).__name__
    raise TypeError(f"a payload frame must be bytes or a read-only contiguous memoryview, not {kind}")


def pack_feed(topic: str, header: bytes, body: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Buffer]:
    """Frames of a feed message. Raises MessageTooLarge above the limits."""
    encoded = topic.encode()
    if len(encoded) > MAX_TOPIC_BYTES:
        raise MessageTooLarge(f"topic of {len(encoded)} bytes; at most {MAX_TOPIC_BYTES} may be sent")
    if len(body) > limits.message_bytes:
        raise MessageTooLarge(f"message of {len(body)} bytes; at most {limits.message_bytes} may be published")
    return [encoded, header + body]


def unpack(frames: Sequence[Buffer], limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """The envelope of a direct message (without the routing id that a ROUTER puts in front), or ProtocolError."""
    if not frames:
        raise ProtocolError("no frames", reason=SHORT)
    first = frames[0]
    if len(first) < HEADER_BYTES:
        raise _wrong_header(first)
    known, incarnation = _QUICK.unpack_from(first)
    if known == _JOINED_START:
        return _unpack_joined(incarnation, frames, limits)
    if known != _DIRECT_START:
        raise _wrong_header(first)
    if len(first) - HEADER_BYTES > limits.message_bytes:
        raise ProtocolError(f"message of {len(first) - HEADER_BYTES} bytes", reason=MESSAGE_SIZE)
    body = memoryview(first)[HEADER_BYTES:]
    if len(frames) == 1:
        return Envelope(incarnation, body)
    if len(frames) - 1 > limits.payload_frames:
        raise ProtocolError(f"payload of {len(frames) - 1} frames or more", reason=FRAME_COUNT)
    payload = [memoryview(frame) for frame in frames[1:]]
    size = sum(map(len, payload))
    if size > limits.payload_bytes:
        raise ProtocolError(f"payload of {size} bytes", reason=PAYLOAD_SIZE)
    return Envelope(incarnation, body, payload)


def _unpack_joined(incarnation: int, frames: Sequence[Buffer], limits: Limits) -> Envelope:
    if len(frames) > 1:
        raise ProtocolError("frames behind a joined payload", reason=FRAME_COUNT)
    frame = memoryview(frames[0])
    held = len(frame)
    count = _COUNT.unpack_from(frame, HEADER_BYTES)[0] if held >= HEADER_BYTES + _COUNT.size else 0
    start = HEADER_BYTES + _COUNT.size * (1 + count)
    if held < start or not count:
        raise ProtocolError(f"{held} bytes with a table of {count} lengths", reason=SHORT)
    if count > limits.payload_frames:
        raise ProtocolError(f"joined payload of {count} frames", reason=FRAME_COUNT)
    lengths = _table(count).unpack_from(frame, HEADER_BYTES)[1:]
    size = sum(lengths)
    if size > limits.joined_payload_bytes or size > limits.payload_bytes or max(lengths) > limits.joined_frame_bytes:
        raise ProtocolError(f"joined payload of {size} bytes, a frame of {max(lengths)}", reason=PAYLOAD_SIZE)
    end = held - size
    if end < start:
        raise ProtocolError(f"joined payload of {size} bytes in a frame of {held}", reason=SHORT)
    if end - start > limits.joined_message_bytes or end - start > limits.message_bytes:
        raise ProtocolError(f"message of {end - start} bytes with a joined payload", reason=MESSAGE_SIZE)
    body = frame[start:end]
    payload = []
    for length in lengths:
        payload.append(frame[end : end + length])
        end += length
    return Envelope(incarnation, body, payload)


def unpack_feed(frames: Sequence[Buffer], limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """The envelope of a feed message, topic first, or ProtocolError."""
    if len(frames) != 2:
        reason = SHORT if len(frames) < 2 else FRAME_COUNT
        raise ProtocolError(f"feed message of {len(frames)} frames", reason=reason)
    second = frames[1]
    if len(second) < HEADER_BYTES:
        raise _wrong_header(second)
    known, incarnation = _QUICK.unpack_from(second)
    if known != _FEED_START:
        raise _wrong_header(second)
    if len(second) <= HEADER_BYTES:
        raise ProtocolError("feed message without a name", reason=SHORT)
    start = HEADER_BYTES + 1
    end = start + second[HEADER_BYTES]
    name = bytes(second[start:end])
    if len(name) != end - start or _NAME.fullmatch(name) is None:
        raise ProtocolError(f"name {name[:MAX_NAME_BYTES]!r} of a feed message", reason=WRONG_NAME)
    if len(second) - end > limits.message_bytes:
        raise ProtocolError(f"message of {len(second) - end} bytes", reason=MESSAGE_SIZE)
    return Envelope(incarnation, memoryview(second)[end:], (), name.decode("ascii"))


def _wrong_header(frame: Buffer) -> ProtocolError:
    """What is wrong with a header that is not one of those expected."""
    if len(frame) < HEADER_BYTES:
        return ProtocolError(f"{len(frame)} bytes are no header", reason=SHORT)
    magic, version, kind, _ = _HEADER.unpack_from(frame)
    if magic != MAGIC:
        return ProtocolError(f"magic {magic!r}", reason=WRONG_MAGIC)
    if version != VERSION:
        return ProtocolError(f"version {version}, this end speaks {VERSION}", reason=WRONG_VERSION)
    return ProtocolError(f"kind {kind}, which is not expected here", reason=WRONG_KIND)


def parse_peer_name(routing_id: bytes) -> tuple[str, int]:
    """``b"name/17"`` as ("name", 17); ProtocolError for anything that no actor of ours calls itself."""
    match = _PEER_NAME.fullmatch(routing_id)
    if match is None or (incarnation := int(match[2])) > MAX_INCARNATION:
        raise ProtocolError(f"routing id {routing_id[:255]!r}", reason=WRONG_NAME)
    return match[1].decode("ascii"), incarnation


def peer_name(name: str, incarnation: int) -> bytes:
    """The routing id of an actor; ValueError if its name or incarnation is not fit for one."""
    routing_id = f"{name}/{incarnation}".encode("ascii", "replace") if name.isascii() else b""
    try:
        parse_peer_name(routing_id)
    except ProtocolError:
        raise ValueError(
            f"an actor's name is 1 to {MAX_NAME_BYTES} printable ASCII characters without a slash, its incarnation "
            f"0 to {MAX_INCARNATION}; got {name!r}, {incarnation}"
        ) from None
    return routing_id

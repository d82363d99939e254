"""Strangers send frames that no peer of ours sends: they are refused, counted and forgotten."""

from __future__ import annotations

import random
from typing import Any

import pytest

from actors import wire
from tests.fuzz.conftest import BOTH, GOOD, process_of

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.usefixtures("unharmed")]


@BOTH
def test_random_frames(besieged: Any, to: str) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    generator = random.Random(seed)
    complaints = besieged.complaints(process_of(to))
    for name in (
        None,
        b"",
        b"\x01\xff" * 20,
        b"no-incarnation",
        b"a/b/1",
        b"x" * 255,
        b"stranger/99999999999999999999999",
    ):
        stranger = besieged.stranger(to, name)
        for _ in range(300):
            frames = [
                generator.randbytes(generator.choice((0, 1, 11, 12, 13, 100, 5000)))
                for _ in range(generator.randrange(1, 5))
            ]
            stranger.frames(*frames)
    for _ in range(20):
        stranger = besieged.stranger(to)
        stranger.frames(*[b""] * 5000)
        stranger.frames(wire.direct_header(stranger.incarnation), *[b"x"] * 2000)
    assert besieged.stranger(to).greeted()
    assert besieged.complaints(process_of(to)) > complaints


@BOTH
def test_right_headers_before_garbage(besieged: Any, to: str) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    generator = random.Random(seed)
    stranger = besieged.stranger(to)
    for _ in range(2000):
        stranger.body(generator.randbytes(generator.randrange(100)))
    for good in GOOD:
        for _ in range(30):
            body = bytearray(good)
            body[generator.randrange(len(body))] = generator.randrange(256)
            stranger.body(bytes(body), *[b"x" * generator.randrange(50)] * generator.randrange(3))
        stranger.body(good[: len(good) // 2])
        stranger.body(good + generator.randbytes(10))
    assert stranger.greeted()


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 1_000_000,  # arrays in arrays
        b"\x81\x01" * 500_000,  # maps in maps
        b"\x93\x04\x01\x91" + b"\x92\x01\x92\x02" * 200_000,  # nested where calls are expected
        b"\x95\x01\x01\x01\x01\xa1x" + b"\x91" * 900_000,  # a field that a later version may have added
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million elements that do not come
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",  # bytes
        b"\xdb\xff\xff\xff\xff",  # text
        b"\x92\x19\xdd\x00\x0f\x42\x40" + b"\xc0" * 1_000_000,
        b"\xc9\xff\xff\xff\xff\x01",  # an extension
    ],
    ids=lambda body: body[:6].hex(),
)
def test_bodies_made_to_exhaust(besieged: Any, to: str, body: bytes) -> None:
    stranger = besieged.stranger(to)
    for _ in range(20):
        stranger.body(body)
    assert stranger.greeted()


@BOTH
def test_frames_beyond_the_limits_end_the_connection_only(besieged: Any, to: str) -> None:
    for size in (17 << 20, 64 << 20):
        besieged.stranger(to).frames(bytes(size))
        besieged.dismiss()
    besieged.stranger(to).body(bytes(2 << 20))
    for _ in range(4):
        stranger = besieged.stranger(to)
        stranger.body(GOOD[0], *[bytes(4 << 20)] * 5)  # each frame is right; the sum is not
        assert stranger.greeted()

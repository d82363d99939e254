"""Erasure codes: a chunk into shards, and back from any ``needed`` of them. Pure.

The code is Reed-Solomon with a Cauchy matrix over GF(2^8), systematic, as ISA-L has it (Plank and Xu 2006 for the matrix);
its Vandermonde matrix would lose some patterns of five and more. It is part of the format: :func:`check_library` compares
what this machine's library makes with what it has to make, and nothing is coded before that was done once.

The library wraps every shard in a header of its own, which depends on nothing but shape and index. It is cut off, so that
equal bytes are equal shards with any version of the library, and put back from a chunk of zeros of the same shape. The
library believes what it is given: whoever calls has verified each shard against its hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from blake3 import blake3

from dsa_zmq.errors import ConfigError, Corrupt
from dsa_zmq.model.redundancy import ALIGNMENT, MAX_DATA, MAX_PARITY, Redundancy

_HEADER_BYTES = 80
_MATRIX = "isa_l_rs_cauchy"
_STEP_BYTES = (
    120 << 10
)  #: coded at a time: from 128 KiB on a malloc that nobody has tuned takes new pages for each call,
# which lasts ten times as long as the code itself; and while the library is at work nothing else in this process is
_GOLDEN = "6d53bcc9281e455d93ea29afeff3519570fd30709734a226f58338cf2f2b6e03"

Bytes = bytes | bytearray | memoryview


def split(chunk: Bytes, redundancy: Redundancy) -> list[Bytes]:
    """All shards of a chunk, by index. Those with its bytes are views of it as far as they are full."""
    size = redundancy.shard_bytes(len(chunk))
    parts = [_own(chunk, index, size) for index in range(redundancy.needed)]
    return parts + _parity(parts, redundancy)


def shard(chunk: Bytes, index: int, redundancy: Redundancy) -> Bytes:
    """One shard of a chunk, as of :func:`split`. Only parity has to be computed."""
    if index < redundancy.needed:
        return _own(chunk, index, redundancy.shard_bytes(len(chunk)))
    return split(chunk, redundancy)[index]


def join(shards: Mapping[int, Bytes], redundancy: Redundancy, length: int) -> bytes:
    """The chunk of that ``length`` from any ``needed`` of its shards, by index. Raises Corrupt for too few of them, or for
    some of another size."""
    given = _usable(shards, redundancy, length)
    own: dict[int, Bytes] = {index: shard for index, shard in given.items() if index < redundancy.needed}
    if missing := [index for index in range(redundancy.needed) if index not in own]:
        own.update(zip(missing, _made(given, missing, redundancy, length), strict=True))
    return b"".join([own[index] for index in range(redundancy.needed)])[:length]


def rebuild(shards: Mapping[int, Bytes], index: int, redundancy: Redundancy, length: int) -> bytes:
    """One shard of a chunk of that ``length`` from any ``needed`` others. Raises as :func:`join`."""
    given = _usable(shards, redundancy, length)
    (made,) = _made(given, [index], redundancy, length)
    return bytes(made)


def check_library() -> None:
    """Raises :class:`ConfigError` if this machine cannot make or read erasure codes, or would make other ones."""
    _checked_library()


def _own(chunk: Bytes, index: int, size: int) -> Bytes:
    """The part of a chunk that is this shard."""
    part = memoryview(chunk)[index * size : (index + 1) * size]
    return part if len(part) == size else bytes(part).ljust(size, b"\0")


def _parity(parts: Sequence[Bytes], redundancy: Redundancy) -> list[Bytes]:
    """Of a chunk's own parts. Each byte of it depends only on those at the same place in them: it is made step by step."""
    driver, views = _driver(redundancy), [memoryview(part) for part in parts]
    step = _STEP_BYTES // redundancy.needed // ALIGNMENT * ALIGNMENT
    made: list[list[memoryview]] = [[] for _ in range(redundancy.tolerates)]
    for start in range(0, len(parts[0]), step):
        encoded = driver.encode(b"".join([view[start : start + step] for view in views]))
        for index, pieces in enumerate(made, redundancy.needed):
            pieces.append(memoryview(encoded[index])[_HEADER_BYTES:])
    return [b"".join(pieces) for pieces in made]


def _usable(shards: Mapping[int, Bytes], redundancy: Redundancy, length: int) -> dict[int, Bytes]:
    """As many as are needed, those with the chunk's own bytes first."""
    size = redundancy.shard_bytes(length)
    known = sorted(index for index in shards if 0 <= index < redundancy.shards)[: redundancy.needed]
    if len(known) < redundancy.needed:
        raise Corrupt(f"{len(known)} shards of a chunk with {redundancy.name} are too few to read it")
    if any(len(shards[index]) != size for index in known):
        raise Corrupt(f"a shard of a chunk of {length} bytes with {redundancy.name} has not {size} bytes")
    return {index: shards[index] for index in known}


def _made(given: Mapping[int, Bytes], missing: list[int], redundancy: Redundancy, length: int) -> list[memoryview]:
    made = _driver(redundancy).reconstruct(_wrapped(given, redundancy, length), missing)
    return [memoryview(shard)[_HEADER_BYTES:] for shard in made]


def _wrapped(given: Mapping[int, Bytes], redundancy: Redundancy, length: int) -> list[bytes]:
    headers = _headers(redundancy, redundancy.shard_bytes(length))
    return [headers[index] + bytes(shard) for index, shard in given.items()]


@lru_cache(maxsize=64)  # full chunks, and some last ones, of a few codes
def _headers(redundancy: Redundancy, size: int) -> list[bytes]:
    return [shard[:_HEADER_BYTES] for shard in _driver(redundancy).encode(bytes(redundancy.needed * size))]


def _driver(redundancy: Redundancy) -> Any:
    return _new_driver(_checked_library(), redundancy)


@lru_cache(maxsize=64)
def _new_driver(library: Any, redundancy: Redundancy) -> Any:
    return library.ECDriver(k=redundancy.needed, m=redundancy.tolerates, ec_type=_MATRIX)


@lru_cache(maxsize=1)
def _checked_library() -> Any:
    try:
        from pyeclib import ec_iface as library  # an extra: most have no use for it, and some systems no wheel
    except ImportError as error:
        raise ConfigError(
            f"erasure codes need a library that is not installed here ({error})",
            "pip install 'dsa-zmq[ec]', or use copies=N",
        ) from error
    digest = blake3()
    for data in range(2, MAX_DATA + 1):
        for parity in range(1, MAX_PARITY + 1):
            code = Redundancy(data + parity, data)
            chunk = blake3(code.name.encode()).digest(length=data * ALIGNMENT)
            for shard in _new_driver(library, code).encode(chunk):
                digest.update(shard[_HEADER_BYTES:])
    if digest.hexdigest() != _GOLDEN:
        raise ConfigError(
            "the erasure code library of this machine makes other shards than this software",
            "install the version of pyeclib that dsa-zmq[ec] asks for",
        )
    return library

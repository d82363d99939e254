"""Where shards' bytes lie in a node's directory, found without its index and without a write: for salvage, tools and tests,
also beside a running node."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from actors.disk import DiskFile, OsDisk
from dsa_zmq.node.segment_files import DIRECTORY, SUFFIX
from dsa_zmq.node.segments import (
    FILE_HEADER_BYTES,
    PUT,
    Record,
    decode_file_header,
    find_generation,
    read_anyway,
    read_footer,
    scan,
)


def find_payload(directory: Path, chunk: int, index: int) -> tuple[Path, int, int] | None:
    """File, offset and length of the payload of a shard's newest record; None if the shard is not there."""
    disk = OsDisk(directory)
    newest: tuple[Path, Record] | None = None
    for name in disk.listdir(DIRECTORY):
        if not name.endswith(SUFFIX):
            continue
        path = f"{DIRECTORY}/{name}"
        for record in _records(disk, path):
            if (record.chunk, record.index) != (chunk, index):
                continue
            if newest is None or record.sequence > newest[1].sequence:
                newest = directory / path, record
    if newest is None or newest[1].kind != PUT:
        return None
    file, record = newest
    return file, record.payload_offset, record.length


def records_of(file: DiskFile, name: str) -> Iterable[Record]:
    """The records of a segment whose headers count; payloads are not looked at. Sectors that cannot be read cost what they
    hit. Raises ConfigError if a newer program wrote the segment, and OSError."""
    size = file.size()
    header = decode_file_header(read_anyway(file, FILE_HEADER_BYTES, 0), name)
    generation = header.generation if header is not None else find_generation(file, size)
    if generation is None:
        return ()
    size = header.size if header is not None else size  # an image that ends early has lost its footer, not its records
    records = read_footer(file, size, generation)
    if records is None:
        return (found.record for found in scan(file, size, generation, verify_from=size))
    return records


def _records(disk: OsDisk, path: str) -> list[Record]:
    try:
        file = disk.open(path, readonly=True)
    except FileNotFoundError:  # unlinked meanwhile
        return []
    try:
        return list(records_of(file, path))
    finally:
        file.close()

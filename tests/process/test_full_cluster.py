"""A real node that is full: it can be emptied, scattered or whole, and is used again."""

from __future__ import annotations

import time
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.errors import NoSpace

pytestmark = [pytest.mark.process, pytest.mark.slow]

FILE_BYTES = 200_000
WAIT_S = 90  #: the grace of what was removed, a round, and the pace of compaction


@pytest.mark.timeout(180)
def test_scattered_removals_make_room_again(content: Any) -> None:
    with (
        dsa_zmq.LocalCluster(1, "copies=1", processes=True, capacity="24MiB", segment_bytes=1 << 20) as cluster,
        cluster.connect() as store,
    ):
        files: dict[str, bytes] = {}
        with pytest.raises(NoSpace) as refused:
            _fill(store, files, content)
        assert refused.value.code == "no-space", refused.value
        assert "remove files" in refused.value.remedy
        for path in list(files)[::2]:
            store.rm(path)
            del files[path]
        again = len(files) // 2
        deadline = time.monotonic() + WAIT_S
        while again:
            try:
                data = content(FILE_BYTES)
                store.write_bytes(f"/again-{again}", data)
            except NoSpace:
                assert time.monotonic() < deadline, f"no room for {again} more"
                time.sleep(0.5)
                continue
            files[f"/again-{again}"] = data
            again -= 1
        assert all(store.read_bytes(path) == data for path, data in files.items())


def _fill(store: Any, files: dict[str, bytes], content: Any) -> None:
    for number in range(1000):
        data = content(FILE_BYTES)
        store.write_bytes(f"/{number}", data)
        files[f"/{number}"] = data

"""Readers and writers that go on while things break, and that know what each file may contain."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b

from dsa_zmq.client.store import Store
from dsa_zmq.errors import DSAError, NotFound

SIZES = (0, 1, 4096, 60_000, 300_000, 1_500_000)  #: bytes, about: from nothing to more than a chunk
CALM = "nothing broken"


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


@dataclass
class Tally:
    """What happened while one kind of fault held. Seconds."""

    reads: int = 0
    failed_reads: int = 0
    writes: int = 0
    failed_writes: int = 0
    worst_read_s: float = 0.0
    worst_failed_s: float = 0.0


@dataclass
class Load:
    """``writers`` threads change files of their own, ``readers`` threads read files that never change.

    A write that fails may or may not have happened: its file may then have either content. What a read gives must be
    among those, always.
    """

    store: Store
    seed: int
    writers: int = 2
    readers: int = 2
    kept_files: int = 40
    wrong: list[str] = field(default_factory=list)  #: one sentence for each read of wrong bytes
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    phase: str = CALM  #: what is broken now
    acknowledged_bytes: int = 0
    _allowed: dict[str, set[bytes | None]] = field(default_factory=dict)  # by path; None: no file
    _kept: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Store the files that never change, then begin."""
        rng = random.Random(self.seed)
        for number in range(self.kept_files):
            self._write(rng, path := f"/kept/{number}")
            self._kept.append(path)
        for number in range(self.writers):
            self._begin(self._change, random.Random(f"{self.seed} writer {number}"), number)
        for number in range(self.readers):
            self._begin(self._read_kept, random.Random(f"{self.seed} reader {number}"))

    def _begin(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=self._guarded, args=(work, *args), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: object, *args: object) -> None:
        try:
            while not self._ended.is_set():
                work(*args)  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - a load that ends early would look like success
            self.wrong.append(f"a thread of the load ended: {error!r}")

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    # --- what the threads do --------------------------------------------------------------------------------------------

    def _change(self, rng: random.Random, writer: int) -> None:
        path = f"/changing/{writer}/{rng.randrange(30)}"
        action = rng.random()
        if action < 0.6:
            self._write(rng, path)
        elif action < 0.75:
            self._remove(path)
        else:
            self._check(path)

    def _read_kept(self, rng: random.Random) -> None:
        self._check(rng.choice(self._kept))

    def _write(self, rng: random.Random, path: str) -> None:
        data = rng.randbytes(int(rng.choice(SIZES) * (0.5 + rng.random())))
        new, tally = digest(data), self.tallies[self.phase]
        self._allowed.setdefault(path, {None}).add(new)
        try:
            self.store.write_bytes(path, data)
        except DSAError:
            tally.failed_writes += 1
        else:
            tally.writes += 1
            self._allowed[path] = {new}
            with self._lock:
                self.acknowledged_bytes += len(data)

    def _remove(self, path: str) -> None:
        allowed, tally = self._allowed.setdefault(path, {None}), self.tallies[self.phase]
        allowed.add(None)
        try:
            self.store.rm(path)
        except NotFound:
            if allowed != {None} and len(allowed) == 1:
                self.wrong.append(f"{path} was gone when it was removed")
        except DSAError:
            tally.failed_writes += 1
            return
        tally.writes += 1
        self._allowed[path] = {None}

    def _check(self, path: str, *, final: bool = False) -> None:
        """One read, judged."""
        phase, begin = self.phase, time.monotonic()
        try:
            found: bytes | None = digest(self.store.read_bytes(path))
        except NotFound:
            found = None
        except DSAError as error:
            tally = self._tally_since(phase)
            tally.failed_reads += 1
            tally.worst_failed_s = max(tally.worst_failed_s, time.monotonic() - begin)
            if final:
                self.wrong.append(f"{path} cannot be read: {error}")
            return
        tally = self._tally_since(phase)
        tally.reads += 1
        tally.worst_read_s = max(tally.worst_read_s, time.monotonic() - begin)
        if found not in self._allowed.get(path, {None}):
            self.wrong.append(f"{path} has {'no' if found is None else 'other'} bytes")

    def _tally_since(self, phase: str) -> Tally:
        """Of what began in that phase: a fault that came meanwhile is to blame."""
        return self.tallies[phase if phase != CALM else self.phase]

    def check_all(self) -> int:
        """Read back every file there ever was; how many there were. The threads must have ended."""
        for path in self._allowed:
            self._check(path, final=True)
        return len(self._allowed)

"""Who this node's directory is, in one small file that is replaced durably and as a whole.

The *store id* is random, made when the directory is formatted: a wiped disk is a new store. The *incarnation* grows with
every start and has a random part, so that an older copy of a disk, and messages to an earlier process, are recognised. The
newest master that was heard (term and id) is remembered, so that an earlier one is never obeyed again.
"""

from __future__ import annotations

import random
import threading

import msgspec
from blake3 import blake3

from actors.disk import Disk
from dsa_zmq.errors import ConfigError, Conflict, Corrupt, DSAError, Incompatible, Unavailable
from dsa_zmq.model.ids import NONCE_BITS, next_incarnation
from dsa_zmq.node.failure import is_full
from dsa_zmq.node.space import BALLAST

FILE = "node.json"
FORMAT = "dsa-zmq node"
FORMAT_VERSION = 1
_IGNORED = frozenset(("lost+found", "lock", "DSA.json", f"{FILE}.tmp"))
"""May be in an empty directory: a fresh ext4, what guards the directory itself, a crash while formatting."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a node knows of itself. A value: what is on the disk changes by :class:`IdentityFile`."""

    store_id: bytes  #: 16 bytes
    incarnation: int  #: of this process, see :func:`dsa_zmq.model.ids.next_incarnation`
    cluster: bytes = b""  #: 16 bytes; empty before the first registration
    node: int = 0  #: given by the master; 0 before the first registration
    name: str = ""
    seen_term: int = 0
    seen_master: bytes = b""  #: 16 bytes; empty before the first registration
    obeyed_term: int = 0  #: of the newest master that has registered us: less than ``seen_term`` after a claim


class _Document(msgspec.Struct, kw_only=True):
    """The file: readable by people, checked as a whole."""

    format: str
    version: int
    identity: msgspec.Raw
    checksum: str  #: BLAKE3-256 of the bytes of ``identity``, hexadecimal


class IdentityFile:
    """The identity of one open directory. Thread-safe; what a method returns is durable."""

    def __init__(self, disk: Disk, identity: Identity, previous: int = 0) -> None:
        self._disk = disk
        self._identity = identity
        self._previous = previous  # incarnation of the process before this one; 0: there was none
        self._lock = threading.Lock()

    @property
    def identity(self) -> Identity:
        return self._identity

    def give_back_start(self) -> None:
        """This process was refused and has done nothing as a node: its start does not count, so that a copy of a directory
        that is started again and again does not climb past the original. Unavailable if the disk fails."""
        with self._lock:
            self._replace(msgspec.structs.replace(self._identity, incarnation=self._previous))

    def remember(self, *, term: int, master: bytes, cluster: bytes, node: int) -> Identity:
        """A master has registered this node. Refuses one that is older than the newest seen (Conflict), a second one of
        the same term (Conflict), and one of another cluster (Incompatible). Unavailable if the disk fails."""
        with self._lock:
            old = self._identity
            if old.cluster and old.cluster != cluster:
                raise Incompatible(
                    f"this directory belongs to cluster {old.cluster.hex()[:8]}, the master to {cluster.hex()[:8]}",
                    "give the address of its own master, or an empty directory",
                )
            if (old.node or node) != node:
                raise Incompatible(f"this directory is node {old.node}, the master calls it {node}", "ask the operator")
            check_term(old, term, master)
            new = msgspec.structs.replace(
                old, cluster=cluster, node=node, seen_term=term, seen_master=master, obeyed_term=term
            )
            self._replace(new)
            return new

    def claim(self, *, term: int, master: bytes, cluster: bytes) -> Identity:
        """Who restores a lost master wants that nobody of a lower term is obeyed from now on. The same claim may come again.

        Refuses (Conflict) a term that is not above the newest seen, and all claims if this node was never in a cluster;
        Incompatible for another cluster. Unavailable if the disk fails.
        """
        with self._lock:
            old = self._identity
            check_claim(old, term, master, cluster)
            if (term, master) == (old.seen_term, old.seen_master):
                return old
            obeyed = old.obeyed_term or old.seen_term  # a file of an earlier version does not have the former
            new = msgspec.structs.replace(old, seen_term=term, seen_master=master, obeyed_term=obeyed)
            self._replace(new)
            return new

    def _replace(self, new: Identity) -> None:
        if new == self._identity:
            return
        try:
            _write(self._disk, new)
        except OSError as error:
            if isinstance(error, DSAError):
                raise
            raise _unusable(error) from error
        self._identity = new


def check_term(identity: Identity, term: int, master: bytes) -> None:
    """Conflict unless this master may be obeyed."""
    if term < identity.seen_term:
        raise Conflict(
            f"the master has term {term}, this node has seen term {identity.seen_term}",
            "stop that master: a newer one has taken over, or it runs on an old copy of its catalog",
        )
    if term == identity.seen_term and identity.seen_master not in (b"", master):
        raise Conflict(f"two masters claim term {term}", "stop one of them: they run on copies of one catalog")


def check_claim(identity: Identity, term: int, master: bytes, cluster: bytes) -> None:
    """Conflict or Incompatible unless who restores a master with this term and id may claim this node."""
    if not identity.cluster:
        raise Conflict("this node was never in a cluster", "there is nothing on it to restore from; leave it out")
    if identity.cluster != cluster:
        raise Incompatible(
            f"this directory belongs to cluster {identity.cluster.hex()[:8]}, not to {cluster.hex()[:8]}",
            "give the address of its own master, or an empty directory",
        )
    if term <= identity.seen_term and (term, master) != (identity.seen_term, identity.seen_master):
        raise Conflict(
            f"the claim has term {term}, this node has seen term {identity.seen_term}",
            "stop what claims it: a newer master, or another restore, has been there",
        )


def open_identity(disk: Disk, rng: random.Random, name: str = "") -> IdentityFile:
    """Open a node's directory, or format an empty one; either way this process has a new incarnation, durably.

    ConfigError for a directory that is not a node's; Incompatible for one of a newer format; Corrupt for a damaged file;
    Unavailable if the disk fails.
    """
    nonce, previous = rng.getrandbits(NONCE_BITS), 0
    try:
        if disk.exists(FILE):
            old = _decode(disk.read_bytes(FILE), disk.sqlite_path(FILE))
            previous = old.incarnation
            identity = msgspec.structs.replace(
                old, incarnation=next_incarnation(previous, nonce), name=name or old.name
            )
        else:
            foreign = [entry for entry in disk.listdir("") if entry not in _IGNORED]
            if foreign:
                raise ConfigError(
                    f"the data directory is not empty and not a DSA node directory (it contains {foreign[0]!r})",
                    "choose an empty directory",
                )
            identity = Identity(store_id=rng.randbytes(16), incarnation=next_incarnation(0, nonce), name=name)
        _write(disk, identity)
    except OSError as error:
        if isinstance(error, DSAError):
            raise
        raise _unusable(error) from error
    return IdentityFile(disk, identity, previous)


def read_identity(disk: Disk) -> Identity:
    """Who a directory is, for those who only look at it. Raises as :func:`open_identity`, and OSError."""
    return _decode(disk.read_bytes(FILE), disk.sqlite_path(FILE))


def _write(disk: Disk, identity: Identity) -> None:
    # The whole document in one line per part, so that `cat` shows it and the checksummed bytes stay as they are.
    body = msgspec.json.encode(identity)
    digest = blake3(body).hexdigest()
    document = _Document(format=FORMAT, version=FORMAT_VERSION, identity=msgspec.Raw(body), checksum=digest)
    data = msgspec.json.encode(document) + b"\n"
    try:
        disk.replace_bytes(FILE, data, mode=0o600)
    except OSError as error:
        if not is_full(error) or not disk.exists(BALLAST):
            raise
        disk.unlink(BALLAST)  # this is what it is there for; the store makes a new one when there is room
        disk.replace_bytes(FILE, data, mode=0o600)


def _decode(data: bytes, file: str) -> Identity:
    """``file``: its full name, for errors."""
    try:
        document = msgspec.json.decode(data, type=_Document)
        if document.format == FORMAT and document.version > FORMAT_VERSION:
            raise Incompatible(
                f"{file} has format {document.version}, this build reads up to format {FORMAT_VERSION}",
                f"upgrade the node to a build that reads format {document.version}, such as the one that wrote it",
                file,
            )
        if blake3(bytes(document.identity)).hexdigest() != document.checksum:
            raise _damaged(file, "its checksum does not match")
        if document.format != FORMAT or document.version != FORMAT_VERSION:
            raise _damaged(file, f"its format reads {document.format!r} {document.version}")
        return msgspec.json.decode(document.identity, type=Identity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(file, str(error)) from error


def _unusable(error: OSError) -> Unavailable:
    return Unavailable(f"the data directory cannot be used: {error.strerror or error}", "check the disk")


def _damaged(file: str, why: str) -> Corrupt:
    return Corrupt(
        f"{file} is damaged: {why}",
        "restore that file from a backup; without it the directory cannot be used, and its shards are made anew elsewhere",
    )

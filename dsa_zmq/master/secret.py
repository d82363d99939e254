"""The master's secret: every node key is derived from it, so whoever reads it can forge receipts and grants."""

from __future__ import annotations

import random

from actors.disk import Disk
from dsa_zmq.errors import ConfigError
from dsa_zmq.model.macs import KEY_BYTES

SECRET_FILE = "secret"
_MAGIC = b"dsa-secret-1\n"


def load_or_create_secret(disk: Disk, rng: random.Random, path: str = SECRET_FILE) -> bytes:
    """The 32 secret bytes in ``path``, made from ``rng`` (the system's entropy in life) if there is no such file.

    The file is readable by its owner only, and durable before the secret is used. Raises :class:`ConfigError` if it is
    there but not whole: a new one would void every receipt and grant, which is not for us to decide.
    """
    if not disk.exists(path):
        disk.replace_bytes(path, _MAGIC + rng.randbytes(KEY_BYTES), mode=0o600)
    data = disk.read_bytes(path)
    if not data.startswith(_MAGIC) or len(data) != len(_MAGIC) + KEY_BYTES:
        raise ConfigError(
            f"'{path}' is not a master's secret",
            "restore it from a backup, or remove it: the nodes then get new keys, and uploads in progress start again",
            path,
        )
    return data[len(_MAGIC) :]

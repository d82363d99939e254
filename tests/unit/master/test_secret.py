"""The secret of which the nodes' keys are made."""

from __future__ import annotations

import random
from typing import Any

import pytest

from actors.disk import OsDisk
from dsa_zmq.errors import ConfigError
from dsa_zmq.master.secret import SECRET_FILE, load_or_create_secret


def test_the_secret_is_made_once_readable_by_its_owner_only_and_a_damaged_one_is_not_replaced(tmp_path: Any) -> None:
    disk = OsDisk(tmp_path)
    first = load_or_create_secret(disk, random.Random(1))
    assert load_or_create_secret(disk, random.Random(2)) == first
    assert len(first) == 32
    assert (tmp_path / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / SECRET_FILE).write_bytes(b"half")
    with pytest.raises(ConfigError, match="secret"):
        load_or_create_secret(disk, random.Random(3))
    assert (tmp_path / SECRET_FILE).read_bytes() == b"half"

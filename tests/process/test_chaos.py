"""``python -m bench.chaos``: a short run keeps every byte, and a lost or changed one is found."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from bench.chaos_load import Load

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


def chaos(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any], str, int]:
    """Exit status, figures, what was printed, process id."""
    command = [sys.executable, "-m", "bench.chaos", "--scratch", str(tmp_path), "--json", str(tmp_path / "json")]
    with subprocess.Popen(
        [*command, "--patience", "0.5", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        text = process.communicate(timeout=110)[0]
    figures = json.loads((tmp_path / "json").read_text()) if (tmp_path / "json").exists() else {}
    return process.returncode, figures, text, process.pid


def test_every_byte_outlives_each_kind_of_fault(tmp_path: Path) -> None:
    status, figures, text, _ = chaos(tmp_path, "--rounds", "6", "--speed", "10")
    assert status == 0, text
    assert len({episode["fault"] for episode in figures["episodes"]}) == 6
    assert "every byte equal" in text
    assert all(word in text for word in ("time to detect", "time to full redundancy", "worst read"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["json"]


def test_namespaces_are_used_or_the_reason_is_said_and_none_is_left(tmp_path: Path) -> None:
    status, figures, text, pid = chaos(tmp_path, "--netns", "--rounds", "3", "--speed", "10", "--seed", "5")
    assert status == 0, text
    assert ("skipped: " in text) != bool(figures)
    if figures:
        for command in (["ip", "netns", "list"], ["ip", "link"]):
            assert (
                f"dsa{pid % 100_000}" not in subprocess.run(command, capture_output=True, text=True, check=True).stdout
            )


def test_the_load_notices_what_it_is_there_to_notice() -> None:
    with dsa_zmq.LocalCluster(2) as cluster, cluster.connect() as store:
        load = Load(store, seed=1, writers=0, readers=0, kept_files=4)
        load.start()
        assert load.check_all() == 4
        assert load.wrong == []
        store.rm("/kept/0")
        store.write_bytes("/kept/1", random.randbytes(10))
        load.check_all()
        assert load.wrong == ["/kept/0 has no bytes", "/kept/1 has other bytes"]

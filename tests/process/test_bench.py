"""The bench runs against whatever it is pointed at, and its figures have the shape that programs rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
CALLS = {"4 KiB up, one call each", "4 KiB down, one call each", "create", "stat", "list 200 entries"}
BULK = {"4 KiB up, bulk", "4 KiB down, bulk", "4 KiB down, bulk to files"}
BIG = {"big file up", "big file down"}
CODES = {"ec=4+2 up", "ec=4+2 down", "ec=4+2 down, 2 nodes dead", "ec=4+2 shards made anew"}


def run(tmp_path: Path, *options: str, module: str = "bench") -> tuple[Any, str]:
    """The figures and the table of one quick run."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", module, "--quick", "--scratch", str(tmp_path), "--json", str(figures), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    return json.loads(figures.read_text()), ended.stdout


def test_a_quick_run_measures_everything_beside_its_limits(tmp_path: Path) -> None:
    figures, table = run(tmp_path)
    measures = {one["workload"]: one for one in figures["measures"]}
    assert set(measures) == CALLS | BULK | BIG | CODES
    for one in measures.values():
        assert one["rate"] > 0
        assert one["rates"]
        assert set(one["cpu_servers_s"]) == {"master", "nodes"}
        assert one["workload"] in table
    assert measures["big file up"]["unit"] == "B/s"
    assert set(figures["limits"]) == {"tcp", "tcp2x", "cp", "disk2x", "fdatasync", "echo"}
    assert all(rate > 0 for rate in figures["limits"].values())
    processes = {"master", "node-1", "node-2", "node-3", "node-4", "client"}
    assert all(set(figures["resident_bytes"][when]) == processes for when in ("idle", "after small", "after big"))
    assert figures["options"]["quick"] is True
    assert figures["machine"]["cores"] == os.cpu_count()
    assert list(tmp_path.iterdir()) == [tmp_path / "figures.json"]


def test_a_directory_is_measured_by_the_same_code(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    figures, _ = run(tmp_path, "--posix", str(tmp_path / "shelf"))
    assert {one["workload"] for one in figures["measures"]} == CALLS | BIG
    assert figures["target"].startswith("posix ")
    assert list((tmp_path / "shelf").iterdir()) == []


def test_bytes_on_the_disks_are_told_by_what_they_are_for(tmp_path: Path) -> None:
    figures, table = run(tmp_path, "--budget", "1000", module="bench.space")
    taken, empty = figures["taken"], figures["empty"]
    assert figures["stored_bytes"] == 500 * 4096
    assert taken["segments"] >= 2 * figures["stored_bytes"]
    assert set(taken) == {"segments", "ready", "index", "catalog", "logs", "ballast", "other"}
    assert all(taken.values())
    assert empty["segments"] < taken["segments"]
    grown = sum(taken[name] for name in ("segments", "index", "catalog", "other"))
    assert figures["per_byte"] == pytest.approx(grown / figures["stored_bytes"])
    assert "all that grows" in table


def test_the_rebuilding_of_a_lost_catalog_is_measured(tmp_path: Path) -> None:
    figures, table = run(tmp_path, "--budget", "1000000", module="bench.rebuild")
    assert figures["files"] == 500
    assert figures["volume_bytes"] > 0
    spent = ("read_and_verify", "insert", "feed", "finish", "open", "first_read")
    assert all(figures[name] > 0 for name in spent)
    assert figures["files_per_second"] == pytest.approx(500 / (figures["feed"] + figures["finish"]))
    assert "times the limit" in table


def test_scrubbing_is_measured_with_and_without_a_foreground(tmp_path: Path) -> None:
    (figures,), table = run(tmp_path, "--kind", "scrub", "--only", "large", module="bench.upkeep")
    assert (figures["files"], figures["kind"]) == ("1 MiB files", "scrub")
    assert figures["quiet_bytes_s"] > 0
    assert figures["busy_bytes_s"] > 0
    kinds = {"4 KiB reads", "4 KiB writes", "1 MiB reads", "1 MiB writes"}
    assert set(figures["alone"]) == set(figures["during"]) == kinds
    assert all(rate > 0 for rate in figures["alone"].values())
    assert all(kind in table for kind in kinds)

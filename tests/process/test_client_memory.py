"""A client's memory is bounded by its settings, not by the size of the files it moves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BUDGET = 300_000_000


def test_files_larger_than_the_budget_pass_through_a_client_within_it(tmp_path: Path) -> None:
    figures = tmp_path / "memory.json"
    command = [sys.executable, "-m", "bench.memory", "--size", str(BUDGET + 100_000_001), "--budget", str(BUDGET)]
    command += ["--scratch", str(tmp_path), "--json", str(figures)]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=110
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    peaks = json.loads(figures.read_text())
    assert set(peaks) == {"put a file", "get it", "put stdin", "largest server"}
    assert all(10_000_000 < peak < BUDGET for peak in peaks.values()), peaks

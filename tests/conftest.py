"""Options and profiles for all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis
import pytest

# The benches are part of the repository, not of the package. Last in line: all else comes from where it is installed.
sys.path.append(str(Path(__file__).resolve().parents[1]))

hypothesis.settings.register_profile("default", deadline=None, max_examples=60)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=8, help="simulator seeds per scenario")
    parser.addoption(
        "--first-seed", type=int, default=0, help="the first of them, to replay one: --first-seed N --seeds 1"
    )
    parser.addoption("--rounds", type=int, default=1, help="rounds of the tests that kill real processes")


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    first = request.config.getoption("--first-seed")
    return range(first, first + request.config.getoption("--seeds"))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))

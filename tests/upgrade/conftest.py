"""Builds that run, and stores that earlier builds have written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.upgrade.builds import Build, Servers, previous_build, this_build
from tests.upgrade.stores import Golden


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The previous build."""
    return previous_build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def new() -> Build:
    """This one."""
    return this_build()


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[int], Golden]:
    """The store that the last build of a catalog format has left, unpacked for this test."""
    return lambda number: Golden(number, tmp_path / "store")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., Servers]]:
    """Makes clusters of processes of any builds; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Servers(tmp_path / "store", **options))


@pytest.fixture
def content() -> Callable[[int], bytes]:
    """Random bytes, never the same twice; the seed is printed with a failure."""
    import random

    seed = random.SystemRandom().getrandbits(32)
    print(f"content seed {seed}")  # noqa: T201 - shown by pytest when the test fails
    generator: Any = random.Random(seed)
    return generator.randbytes

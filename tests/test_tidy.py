"""House rules that a machine can hold."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("actors", "dsa_zmq", "bench")

# Rooms whose code only ever reacts: no clock, randomness, threads, sockets, processes or files of their own.
PURE = [
    "actors/core.py",
    "actors/wire.py",
    "actors/requests.py",
    "actors/credit.py",
    "actors/liveness.py",
    "actors/feed.py",
    "dsa_zmq/errors.py",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "dsa_zmq/model").glob("*.py")),
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "dsa_zmq/protocol").glob("*.py")),
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "dsa_zmq/master/catalog").glob("*.py")),
    *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("dsa_zmq/*/actor.py")),
    "dsa_zmq/master/members.py",
    *(
        f"dsa_zmq/client/{room}.py"
        for room in (
            "budget",
            "courier",
            "download",
            "effects",
            "gathering",
            "greeting",
            "inherited",
            "line",
            "session",
            "shards",
            "slots",
            "suspicion",
            "tasks",
            "upload",
        )
    ),
]
BANNED_MODULES = {
    "asyncio", "concurrent", "datetime", "io", "multiprocessing", "os", "pathlib", "secrets", "select", "shutil", "signal",
    "socket", "subprocess", "tempfile", "threading", "time", "uuid", "zmq",
}  # fmt: skip
MAX_LINES = 400


def tracked(*suffixes: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if name.endswith(suffixes) and (ROOT / name).is_file()]


@pytest.mark.parametrize("name", PURE)
def test_pure_rooms_use_no_clock_randomness_threads_sockets_or_files(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in BANNED_MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            found.append(f"open() in line {node.lineno}")
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random" and node.attr != "Random":
            found.append(
                f"random.{node.attr} in line {node.lineno}"
            )  # the type may be named, the shared generator not used
    assert not found


def test_every_package_folder_is_a_package_and_no_test_folder_is() -> None:
    for package in PACKAGES:
        for path in tracked(".py"):
            if path.is_relative_to(ROOT / package):
                assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_module_says_what_it_is_for() -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path in tracked(".py")
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not missing


def test_files_keep_to_one_worry() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked(".py")
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"over {MAX_LINES} lines: which second worry moved in?"


def test_nothing_is_left_undone_in_the_text() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b|/home/\w+|/root/|NotImplementedError")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".py", ".md", ".cfg", ".ini", ".toml", "run")
        if path != Path(__file__)  # it has to name them
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found

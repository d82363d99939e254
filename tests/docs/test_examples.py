"""The documents' examples are run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dsa_zmq.cli.main import dsa
from dsa_zmq.config import MasterOptions, NodeOptions, options

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    """(where, text) of every block of that language in all documents."""
    found = []
    for document in DOCUMENTS:
        for number, (named, text) in enumerate(BLOCK.findall(document.read_text()), 1):
            if named == language:
                found.append((f"{document.name}:{number}", text))
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, with ``dsa`` on the path and something to store."""
    home = tmp_path / "home"
    (home / "Documents" / "letters").mkdir(parents=True)
    (home / "Documents" / "letters" / "one.txt").write_bytes(os.urandom(3000))
    (home / "src").mkdir()
    (home / "src" / "data.bin").write_bytes(os.urandom(2_000_000))
    programs = tmp_path / "bin"
    programs.mkdir()
    launcher = programs / "dsa"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dsa_zmq "$@"\n')
    launcher.chmod(0o755)
    search = os.pathsep.join([str(programs), os.environ["PATH"]])
    return {**os.environ, "HOME": str(home), "PATH": search, "XDG_DATA_HOME": str(home / "data")}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("text", [pytest.param(text, id=where) for where, text in blocks("python")])
def test_a_python_example_runs(text: str, tmp_path: Path, environment: dict[str, str]) -> None:
    if "@pytest.fixture" in text:
        text += (
            "\n\ndef test_it(store):\n    store.write_bytes('/x', b'y')\n    assert store.read_bytes('/x') == b'y'\n"
        )
    script = tmp_path / "test_example.py"
    script.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    if "@pytest.fixture" not in text:
        command = [sys.executable, "test_example.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.process
def test_the_five_minutes_of_the_readme_run(environment: dict[str, str]) -> None:
    text = next(text for where, text in blocks("sh") if where.startswith("README") and "dsa up -d" in text)
    home = Path(environment["HOME"])
    try:
        done = subprocess.run(
            ["bash", "-ec", text], cwd=home, env=environment, capture_output=True, text=True, timeout=110
        )
        assert done.returncode == 0, done.stdout + done.stderr
        stored, back = home / "Documents/letters/one.txt", home / "back/letters/one.txt"
        assert back.read_bytes() == stored.read_bytes()
        assert "src/data.bin" in done.stdout
    finally:
        subprocess.run(["dsa", "down", "--dir", str(home / "dsa")], env=environment, capture_output=True, timeout=30)


def command_lines() -> list[str]:
    """Every ``dsa ...`` of the shell examples, and of the service file."""
    lines = []
    for language in ("sh", "ini"):
        for _, text in blocks(language):
            for line in text.splitlines():
                for part in re.split(r"&&|\|", line.partition("#")[0].removeprefix("ExecStart=")):
                    words = part.split()
                    if words and words[0].rpartition("/")[2] == "dsa":
                        lines.append(part.strip())
    return sorted(set(lines))


@pytest.mark.parametrize("line", command_lines())
def test_a_command_of_the_documents_exists_with_its_options(line: str) -> None:
    with dsa.make_context("dsa", shlex.split(line)[1:]) as context:
        name, command, arguments = dsa.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, name
        command.make_parser(click.Context(command, parent=context)).parse_args(arguments)  # raises NoSuchOption


def test_the_configuration_examples_are_read(tmp_path: Path) -> None:
    (_, toml), *_ = blocks("toml")
    path = tmp_path / "dsa.toml"
    path.write_text(toml)
    assert options(MasterOptions, {}, path).bind == "10.0.0.1"
    assert options(NodeOptions, {}, path).capacity == "80%"
    classic = next(text for _, text in blocks("text") if "500000000000" in text)
    path = tmp_path / "config.dsa"
    path.write_text(classic)
    assert options(NodeOptions, {"insecure": True}, path).capacity == 500_000_000_000

"""docs/CLI.md names every command, every option and every exit status, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from dsa_zmq import errors
from dsa_zmq.cli import main as frame
from dsa_zmq.cli import reporting
from dsa_zmq.cli.main import COMMANDS
from dsa_zmq.cli.session import shared_options

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "CLI.md").read_text(encoding="utf-8")
SHARED = {name for option in shared_options() for name in option.opts} | {"-h", "--help"}
_OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


def section(heading: str) -> str:
    """The text below a heading, down to the next of its level or above."""
    level, _, _ = heading.partition(" ")
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {heading!r}"
    return found.group(1)


def commands_of(name: str) -> list[click.Command]:
    command = frame.dsa.get_command(click.Context(frame.dsa), name)
    assert command is not None
    return [command, *command.commands.values()] if isinstance(command, click.Group) else [command]


def own_options(name: str) -> set[str]:
    options = [option for command in commands_of(name) for option in command.params if isinstance(option, click.Option)]
    return {opt for option in options if not option.hidden for opt in option.opts} - SHARED


def option_table(text: str) -> set[str]:
    """What stands in the first cells of the table of options."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `-")]
    return {option for row in rows for option in _OPTION.findall(row)}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section_with_exactly_its_options(name: str) -> None:
    text = section(f"## dsa {name}")
    assert option_table(text) == own_options(name)
    for command in commands_of(name)[1:]:
        assert f"dsa {name} {command.name}" in text


def test_no_section_is_about_a_command_that_does_not_exist() -> None:
    assert set(re.findall(r"^## dsa (\w+)$", TEXT, re.MULTILINE)) == set(COMMANDS)
    assert set(re.findall(r"\[`(\w+)`\]\(#dsa-\1\)", TEXT.split("## Everywhere")[0])) == set(COMMANDS)


def test_the_shared_options_are_named_once() -> None:
    assert option_table(section("## Everywhere")) == SHARED


def test_every_exit_status_is_in_the_table() -> None:
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", section("### Exit statuses"), re.MULTILINE)}
    used = {kind.exit_status for kind in errors.BY_CODE.values()} | {0, reporting.USAGE, reporting.INTERRUPTED}
    assert listed == used


def test_links_lead_to_sections() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


@pytest.mark.parametrize(
    "line",
    re.findall(
        r"^(?:.* \| )?(dsa .*?)(?: +#.*| \| .*)?$",
        "\n".join(block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)),
        re.MULTILINE,
    ),
)
def test_the_examples_are_lines_that_parse(line: str) -> None:
    name, *words = line.split()[1:]
    command = commands_of(name)[0]
    assert set(_OPTION.findall(" ".join(word for word in words if word.startswith("-")))) <= own_options(name) | SHARED
    command.make_context(name, [word for word in words if word != "--json"], resilient_parsing=True)

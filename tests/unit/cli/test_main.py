"""The command line's frame: commands found lazily, options anywhere, errors as cause and remedy with their status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dsa_zmq import errors
from dsa_zmq.cli import main as frame
from dsa_zmq.cli.main import COMMANDS, Entry, main
from dsa_zmq.cli.session import Command, Session, pass_session

STATUSES = {
    errors.DSAError: 1, errors.Invalid: 2, errors.ConfigError: 2, errors.Incompatible: 2, errors.NotFound: 3,
    errors.AlreadyExists: 4, errors.Conflict: 4, errors.NotEmpty: 4, errors.Denied: 5, errors.NoSpace: 6,
    errors.TooFewNodes: 6, errors.Unavailable: 7, errors.Timeout: 7, errors.Corrupt: 8, errors.InternalError: 70,
}  # fmt: skip


class Probe:
    """A command whose end the test decides."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.session: Session | None = None

        @click.command(cls=Command)
        @pass_session
        def probe(session: Session) -> None:
            self.session = session
            if self.error is not None:
                raise self.error

        self.command = probe


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = Probe()
    monkeypatch.setattr("dsa_zmq.cli.server.probe", made.command, raising=False)
    monkeypatch.setitem(COMMANDS, "probe", Entry("server:probe", "For tests.", "Serve"))
    return made


@pytest.mark.parametrize(("kind", "status"), STATUSES.items(), ids=lambda value: getattr(value, "__name__", value))
def test_an_error_is_one_cause_one_remedy_and_its_status(
    probe: Probe, capsys: pytest.CaptureFixture[str], kind: type[errors.DSAError], status: int
) -> None:
    probe.error = kind("the shelf is empty", "fill it")
    assert main(["probe"]) == status
    assert capsys.readouterr() == ("", "dsa: the shelf is empty\n  fill it\n")


def test_with_json_an_error_is_an_object_on_stderr(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    probe.error = errors.NotFound("no '/a'", "see 'dsa ls /'")
    assert main(["probe", "--json"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": {"code": "not-found", "message": "no '/a'", "remedy": "see 'dsa ls /'"}}


def test_an_unexpected_exception_is_our_bug_and_its_traceback_goes_to_a_file(
    probe: Probe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    probe.error = ZeroDivisionError("oh")
    assert main(["probe"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "ZeroDivisionError: oh" in err
    found = re.search(r"the traceback is in (\S+)", err)
    assert found is not None
    assert "raise self.error" in Path(found.group(1)).read_text()


def test_with_vv_the_traceback_of_a_bug_is_shown(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    probe.error = ZeroDivisionError("oh")
    assert main(["probe", "-vv"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1), (EOFError(), 130)]
)
def test_the_world_ends_a_command_without_a_traceback(
    probe: Probe, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    probe.error = error
    assert main(["probe"]) == status
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_it_without_a_word() -> None:
    code = "import sys; sys.stdin.read(); from dsa_zmq.cli.main import main; sys.exit(main(['--help']))"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdin is not None
        child.stdout.close()
        child.stdin.close()
        assert child.stderr.read() == b""
        assert child.wait(10) == 1


def test_global_options_are_taken_before_and_after_the_command(probe: Probe) -> None:
    for line in (["--url", "dsa://h", "--json", "-v", "probe"], ["probe", "--url", "dsa://h", "--json", "-v"]):
        assert main(line) == 0
        assert probe.session == Session(url="dsa://h", json=True, verbosity=1)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (["nodde"], "there is no command 'nodde'; did you mean 'node'"),
        (["master", "--portt", "1"], "--portt"),
        (["node", "--port", "x"], "'x' is not a valid"),
        (["demo", "--nodes"], "requires an argument"),
    ],
)
def test_a_mistake_on_the_line_is_status_2_with_the_way_to_help(
    capsys: pytest.CaptureFixture[str], line: list[str], complaint: str
) -> None:
    assert main(line) == 2
    err = capsys.readouterr().err
    assert err.startswith("dsa: ")
    assert complaint in err
    assert "--help'" in err
    assert main([*line, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_its_line_in_the_list(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:\n" in text
    assert f"  dsa {name}" in text
    assert "--json" in text
    command = frame.dsa.get_command(click.Context(frame.dsa), name)
    assert command is not None
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option) and not option.hidden)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in COMMANDS)


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    import dsa_zmq
    from dsa_zmq.master.catalog.schema import NEWEST_FORMAT
    from dsa_zmq.protocol.messages import PROTOCOL_VERSION

    assert main(["--version"]) == 0
    speaks = f"protocol {PROTOCOL_VERSION}, catalog format {NEWEST_FORMAT}"
    assert capsys.readouterr().out == f"dsa {dsa_zmq.__version__} ({speaks})\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "allowed"),
    [("import dsa_zmq", set()), ("from dsa_zmq.cli.main import main; main(['--help'])", {"click"})],
    ids=["import", "help"],
)
def test_the_start_imports_nothing_heavy(code: str, allowed: set[str]) -> None:
    heavy = {"zmq", "apsw", "blake3", "rich", "structlog", "asyncio", "msgspec", "click"} - allowed
    program = f"import sys; {code}; sys.exit(repr({heavy!r} & set(sys.modules)) if {heavy!r} & set(sys.modules) else 0)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, env=os.environ, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["dsa_zmq", "dsa_zmq.master", "dsa_zmq.node"])
def test_the_modules_run_as_the_commands_do(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, env=os.environ, check=True
    )
    assert ended.stdout.startswith(f"Usage: {module.replace('_zmq', '').replace('.', ' ')}")

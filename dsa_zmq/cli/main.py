"""The command ``dsa``: a table of commands, each imported only when it is run, and the one place where errors end."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from dsa_zmq import __version__
from dsa_zmq.cli import reporting
from dsa_zmq.cli.session import Session, shared_options
from dsa_zmq.errors import DSAError, LocalError


class Entry(NamedTuple):
    """Where a command lives, and its line in the list of commands (so that listing them imports none)."""

    target: str  #: ``module:attribute``, the module below dsa_zmq.cli
    help: str
    section: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("demo:demo", "Store, kill a node, read back, compare: all on this machine.", "Try"),
    "up": Entry("local:up", "Run a cluster on this machine until Ctrl-C or 'dsa down'.", "Try"),
    "down": Entry("local:down", "Stop the cluster that 'dsa up' started.", "Try"),
    "put": Entry("transfer:put", "Store files and folders.", "Use"),
    "get": Entry("transfer:get", "Fetch files and folders.", "Use"),
    "cat": Entry("names:cat", "Write contents to standard output.", "Use"),
    "ls": Entry("listing:ls", "List directories.", "Use"),
    "stat": Entry("listing:stat", "Show all that is known of a path.", "Use"),
    "mkdir": Entry("names:mkdir", "Make directories.", "Use"),
    "mv": Entry("names:mv", "Rename files and directories.", "Use"),
    "cp": Entry("transfer:cp", "Copy within the store, or between it and this machine.", "Use"),
    "rm": Entry("removal:rm", "Remove files and directories.", "Use"),
    "df": Entry("status:df", "Show how much can still be stored.", "Look after"),
    "nodes": Entry("nodes:nodes", "Show the nodes, empty one, forget one.", "Look after"),
    "rebalance": Entry("rebalance:rebalance", "Fill all nodes alike.", "Look after"),
    "redundancy": Entry("redundancy:redundancy", "Choose how many nodes may be lost, by directory.", "Look after"),
    "tasks": Entry("rebalance:tasks", "Show what was begun, and how far it is.", "Look after"),
    "health": Entry("health:health", "Show how safe everything is.", "Look after"),
    "explain": Entry("explain:explain", "Say where a file lies and what it survives.", "Look after"),
    "scrub": Entry("scrub:scrub", "Verify all stored bytes, and show how far that is.", "Look after"),
    "salvage": Entry("salvage:salvage_command", "Write all files from the directories of nodes alone.", "Look after"),
    "gc": Entry("gc:gc", "Let go of what nobody holds.", "Look after"),
    "catalog": Entry("catalog:catalog", "Look after the copies of the catalog.", "Look after"),
    "cluster": Entry("cluster:cluster", "Restore a cluster whose master was lost.", "Look after"),
    "master": Entry("server:master", "Run a master.", "Serve"),
    "node": Entry("server:node", "Run a node.", "Serve"),
}


class LazyGroup(click.Group):
    """A group whose commands are imported at their first use: ``dsa --help`` stays fast whatever they import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.target.split(":")
        command = getattr(importlib.import_module(f"dsa_zmq.cli.{module}"), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.target} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items() if entry.section == section])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = _closest(args[0])
            raise click.UsageError(f"there is no command '{args[0]}'{f'; did you mean {close}?' if close else ''}", ctx)
        return super().resolve_command(ctx, args)


def _closest(word: str) -> str:
    import difflib

    return " or ".join(f"'{name}'" for name in difflib.get_close_matches(word, COMMANDS, n=2))


def _show_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    """Errors between builds that are too far apart speak of these numbers."""
    if not asked or ctx.resilient_parsing:
        return
    from dsa_zmq.master.catalog.schema import NEWEST_FORMAT
    from dsa_zmq.protocol.messages import PROTOCOL_VERSION

    click.echo(f"dsa {__version__} (protocol {PROTOCOL_VERSION}, catalog format {NEWEST_FORMAT})")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    params=[*shared_options()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Each command has its own --help, with examples.",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
    help="Show the version, and what it speaks and writes.",
)  # fmt: skip
def dsa() -> None:
    """A distributed file store: shared, redundant, self-healing.

    Start with 'dsa demo', or run a cluster of your own with 'dsa up'.
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status. ``args`` default to those of the process."""
    line = list(sys.argv[1:] if args is None else args)
    _fill_closed_streams()
    session = Session(json="--json" in _before_separator(line))
    try:
        outcome: Any = dsa.main(line, prog_name="dsa", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return reporting.INTERRUPTED
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return reporting.report_usage(*_explain(error), session.json)
    except DSAError as error:
        if session.verbosity >= 2:
            import traceback

            traceback.print_exc()
        from dsa_zmq.client.merging import as_final

        return reporting.report(as_final(error), session.json)
    except BrokenPipeError:  # the reader has gone (``dsa cat x | head``): end without a word
        _forget_output()
        return 1
    except SystemExit as end:  # click ends so after a broken pipe
        return end.code if isinstance(end.code, int) else 1
    except OSError as error:  # of this machine: a full disk behind stdout, too many open files
        status = reporting.report(_of_this_machine(error), session.json)
        _forget_output()
        return status
    except BaseException as error:  # noqa: BLE001 - the outermost frame: it is shown as our bug, with a log
        return reporting.report_bug(error, session.json, session.verbosity)
    return outcome if isinstance(outcome, int) else 0


def _fill_closed_streams() -> None:
    """Started with closed streams (``>&-``), no file or socket may get their numbers. What was to be printed on a closed
    stdout is an error."""
    if sys.stdin is None:
        with contextlib.suppress(OSError):
            os.open(
                os.devnull, os.O_RDONLY
            )  # the number only: a command that reads standard input must see it is closed
    if (
        sys.stdout is None
    ):  # for reading: what is written is refused, as it is of a closed descriptor, and not swallowed
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process


def _of_this_machine(error: OSError) -> LocalError:
    """Named after its file. Of what has none and is written to, there is standard output only."""
    from dsa_zmq.client.local_file import local_error

    if error.filename:
        return local_error(error, str(error.filename))
    if error.errno == errno.EBADF:
        return LocalError(
            f"standard output: {error.strerror}", "it is closed: send it to a file, or to another program"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return local_error(error, "standard output")
    return LocalError(error.strerror or str(error))


def _before_separator(line: list[str]) -> list[str]:
    return line[: line.index("--")] if "--" in line else line


def _explain(error: click.ClickException) -> tuple[str, str]:
    """A parse error as cause and remedy."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dsa"
    if isinstance(error, click.UsageError):
        return message[:1].lower() + message[1:], f"see '{path} --help'"
    return message, ""


def _forget_output() -> None:
    """What could not be written is not tried again at the interpreter's end, which would say so in its own way."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

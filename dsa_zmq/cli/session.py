"""What all commands share: the global options, wherever on the line they stand, and the store they lead to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dsa_zmq.cli import output

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store


@dataclass
class Session:
    """The global options of one run of ``dsa``."""

    url: str | None = None
    json: bool = False
    verbosity: int = 0

    def connect(self) -> Store:
        """The store that ``--url`` or ``DSA_URL`` names. Use it in a ``with`` block."""
        from dsa_zmq.app import connect

        self.start_log()
        return connect(self.url)

    def start_log(self) -> None:
        """With ``-v`` what the library logs goes to stderr; otherwise errors are all that is said."""
        if self.verbosity:
            import logging

            level = logging.DEBUG if self.verbosity > 1 else logging.INFO
            logging.basicConfig(level=level, format="%(levelname)-8s %(name)s: %(message)s")

    def emit(self, **fields: object) -> None:
        """One JSON object on a line of its own."""
        output.emit(**fields)

    @property
    def is_live(self) -> bool:
        """There is a person at a terminal to show progress to."""
        return not self.json and sys.stderr.isatty()


pass_session = click.make_pass_decorator(Session, ensure=True)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Session), name, value)

    return callback


def shared_options() -> list[click.Option]:
    """``--url``, ``--json`` and ``-v``, new objects each time. Their values end up in the :class:`Session`."""
    options: dict[str, tuple[list[str], dict[str, Any]]] = {
        "url": (
            ["--url"],
            {"metavar": "URL", "help": "The cluster: dsa://HOST[:PORT]. Else DSA_URL, else this machine."},
        ),
        "json": (["--json"], {"is_flag": True, "help": "One JSON object a line instead of text."}),
        "verbosity": (["-v", "--verbose"], {"count": True, "help": "Say more; twice: all, with tracebacks."}),
    }
    return [
        click.Option(names, expose_value=False, callback=_remember(field), **settings)
        for field, (names, settings) in options.items()
    ]


class Command(click.Command):
    """A command that also takes the global options, so that ``dsa ls --json`` works like ``dsa --json ls``."""

    def __init__(self, *args: Any, examples: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = examples
        own = {name for parameter in self.params for name in parameter.opts}
        self.params += [option for option in shared_options() if not own & set(option.opts)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, line by line as they were written."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


class CommandGroup(Command, click.Group):
    """Several commands under one plural word, with the global options and examples. The one named ``default`` is run if none
    is said."""

    def __init__(self, *args: Any, default: str = "", **settings: Any) -> None:
        super().__init__(*args, invoke_without_command=bool(default), **settings)
        self.default = default

    def invoke(self, ctx: click.Context) -> Any:
        """The command that was said, or the default one."""
        result = super().invoke(ctx)
        return ctx.invoke(self.commands[self.default]) if ctx.invoked_subcommand is None else result

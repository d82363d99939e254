"""``dsa master`` and ``dsa node``: one server each, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.errors import Invalid

_F = TypeVar("_F", bound=Callable[..., Any])


def _server_options(function: _F) -> _F:
    """What both servers take."""
    for option in reversed(
        [
            click.option("--config", metavar="FILE", help="Read options from a file; those given here come first."),
            click.option("--bind", metavar="ADDRESS", help="Listen at this address of this machine."),
            click.option("--port", type=click.IntRange(0, 65_535), metavar="N", help="Listen at this port; 0: any."),
            click.option(
                "--metrics",
                type=click.IntRange(0, 65_535),
                metavar="N",
                help="Serve figures for Prometheus at this port.",
            ),
            click.option("--insecure", is_flag=True, default=None, help="Listen to other machines without keys."),
            click.option("--log-json", is_flag=True, help="Log one JSON object a line."),
            click.option("--ready-file", metavar="FILE", help="Write the endpoints here (JSON) once it serves."),
            click.option("--end-with-stdin", is_flag=True, help="Stop when standard input closes."),
        ]
    ):
        function = option(function)
    return function


@click.command(
    cls=Command,
    examples="""
    dsa master --dir /srv/dsa/master
    dsa master --dir /srv/dsa/master --bind 0.0.0.0 --insecure
    dsa master --config dsa.toml --log-json
    """,
)
@click.option("--dir", metavar="DIR", help="Where the catalog lives; made if it is missing.")
@click.option("--catalog-copies", metavar="LEVEL", help="When answers leave: sync, async or off; see OPERATING.")
@click.option("--catalog-history", metavar="TIME", help="How far back the catalog can be had: 1h.")
@click.option("--take-over", is_flag=True, help="Use a catalog that was found to be an old copy, for good.")
@_server_options
@pass_session
def master(
    session: Session,
    /,
    config: str | None,
    take_over: bool,
    log_json: bool,
    ready_file: str | None,
    end_with_stdin: bool,
    **given: Any,
) -> int:
    """Run a master until Ctrl-C or SIGTERM.

    It listens at 127.0.0.1:7700 for control, and at the next two ports for hints and heartbeats.

    A master whose nodes have obeyed another one does not start again: its catalog is an old copy. --take-over makes it
    the cluster's catalog all the same; what was stored since the copy was made may be missing then.
    """
    from dsa_zmq import config as configuration
    from dsa_zmq.process import Life, run_master

    options = configuration.options(configuration.MasterOptions, given, config)
    life = Life(log_json, session.verbosity, ready_file, end_with_stdin)
    return run_master(options, life, take_over=take_over)


@click.command(
    cls=Command,
    examples="""
    dsa node --path /srv/dsa/node
    dsa node --master 10.0.0.1 --path /srv/dsa/node --capacity 500GB --name shelf-3 --zone room-b --insecure
    dsa node --master 10.0.0.1:7700 --path /srv/dsa/node --advertise files.example.org:7710 --insecure
    dsa node config.dsa
    """,
)
@click.argument("config_file", metavar="[CONFIG]", required=False)
@click.option("--master", metavar="ADDRESS", help="The master's host, or host:port.")
@click.option("--path", metavar="DIR", help="Where the shards live; made if it is missing.")
@click.option("--capacity", metavar="SIZE", help="What it offers: 500GB, 500GiB, 80% or bytes; else what is free.")
@click.option("--name", metavar="NAME", help="How people call it; else the host's name.")
@click.option("--zone", metavar="ZONE", help="Failure domain above the host: a rack, a room.")
@click.option("--advertise", metavar="ADDRESS", help="Where others reach it, if not where it listens.")
@_server_options
@pass_session
def node(
    session: Session,
    /,
    config: str | None,
    config_file: str | None,
    log_json: bool,
    ready_file: str | None,
    end_with_stdin: bool,
    **given: Any,
) -> int:
    """Run a node until Ctrl-C or SIGTERM.

    It connects to the master by itself, keeps trying while nobody answers, and after a restart is accepted back with
    all that it holds. CONFIG is the same as --config: a TOML file, or a classic config.dsa of four lines (address of
    the master, its port, storage space in bytes, path to the local storage space).
    """
    from dsa_zmq import config as configuration
    from dsa_zmq.process import Life, run_node

    if config and config_file:
        raise Invalid("two configuration files were given", "give one, as CONFIG or with --config")
    options = configuration.options(configuration.NodeOptions, given, config or config_file)
    return run_node(options, Life(log_json, session.verbosity, ready_file, end_with_stdin))

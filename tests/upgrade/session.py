"""A session at the command line, of whichever build runs it: ``PYTHONPATH=BUILD python session.py URL FOLDER PATH``.

Stores two local files below PATH and gets them back, all through ``dsa``. Ends with status 0 if each command did what it
should; else it says which one did not. The commands share one process: most of each would be the interpreter's start.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from dsa_zmq.cli.main import main as dsa


def session(url: str, folder: Path, top: str) -> None:
    """``folder`` has two files, ``one`` and ``two``."""

    def run(*words: str | Path, status: int | None = 0) -> str:
        """``status`` None: any."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            ended = dsa([str(words[0]), "--url", url, *map(str, words[1:])])
        if status not in (None, ended):
            raise SystemExit(f"dsa {' '.join(map(str, words))} ended with {ended}: {out.getvalue()}")
        return out.getvalue()

    def same(name: str, back: Path) -> None:
        if back.read_bytes() != (folder / name).read_bytes():
            raise SystemExit(f"{back} is not as it was stored")

    run("mkdir", "-p", f"{top}/coded")
    run("redundancy", "set", f"{top}/coded", "ec=2+1")
    for directory in (top, f"{top}/coded"):
        run("put", folder / "one", folder / "two", f"{directory}/")
        back = folder / directory.replace("/", "-")
        run("get", f"{directory}/one", back)
        same("one", back)
        run("cp", f"dsa:{directory}/two", f"dsa:{directory}/three")
        run("mv", f"{directory}/three", f"{directory}/four")
        run("get", f"{directory}/four", back)
        same("two", back)
        run("rm", f"{directory}/four")
        run("stat", f"{directory}/four", status=3)
        names = {Path(json.loads(line)["path"]).name for line in run("ls", "--json", directory).splitlines()}
        if names - {"coded"} != {"one", "two"}:
            raise SystemExit(f"dsa ls names {names}")
        run("explain", f"{directory}/one")
    health = json.loads(run("health", "--json", status=None))
    run(
        "health", status=int(health.get("catalog_at_risk", False))
    )  # nodes of the previous build can hold no copy of it
    if health["state"] != "healthy" or health["nodes_up"] != health["nodes"]:
        raise SystemExit(f"dsa health says {health}")
    nodes = [json.loads(line) for line in run("nodes", "--json").splitlines()]
    if {node["state"] for node in nodes} != {"up"}:
        raise SystemExit(f"dsa nodes says {nodes}")
    for words in (("df",), ("nodes",), ("tasks",), ("scrub", "status"), ("gc", "-n")):
        run(*words)


if __name__ == "__main__":
    session(sys.argv[1], Path(sys.argv[2]), sys.argv[3])

"""A server's figures for Prometheus: its actor's statistics as text, served by a small HTTP server in a thread of its own.

Whoever scrapes gets the figures of one turn of the actor. An actor that does not answer in time is told as status 503: a
hanging server must not look well.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dsa_zmq.errors import ConfigError

ANSWER_S = 2.0  #: for the actor; less than the usual time-out of a scrape
REQUEST_S = 10.0  #: for a client that connects and says nothing
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Statistics = Mapping[str, int]
Figures = Callable[[float], Statistics | None]
"""The statistics of one turn, or None if the actor did not answer within so many seconds."""

_FAMILY = re.compile(r"(stored_chunks|stored_bytes)_(healthy|degraded|endangered|lost)")
_HELP = {
    "stored_chunks": "Chunks by how safe they are; at most ten seconds old.",
    "stored_bytes": "Bytes of content by how safe they are; at most ten seconds old.",
    "nodes_up": "Nodes that are up.",
    "moves": "Shards that are being made anew or moved, or wait for it.",
    "moves_bytes": "Bytes of those shards.",
    "moves_rate": "Bytes a second that moves have copied lately.",
    "capacity_bytes": "What this node may take.",
    "used_bytes": "What segments and index take on the disk.",
    "free_bytes": "What new shards may still take, by capacity and disk, less the reserve; 0 if the disk has failed.",
    "garbage_bytes": "What is dead in full segments; compaction brings it back.",
    "shards_damaged": "Shards in quarantine.",
    "volumes": "Copies of the catalog that this node keeps.",
    "volume_bytes": "What they take on the disk, beside capacity, with what is kept back for them.",
    "shipped_bytes": "Records of the catalog appended to them, since the start.",
    "scrubbed_bytes": "Verified by scrubbing, since the start.",
    "compacted_bytes": "Appended anew by compaction, since the start.",
}


def exposition(role: str, statistics: Statistics) -> str:
    """All figures in Prometheus's text format. Names of states become labels; all are gauges: counts may begin anew."""
    families: dict[str, list[tuple[str, int]]] = {}
    for name, value in sorted(statistics.items()):
        found = _FAMILY.fullmatch(name)
        family, label = (found[1], f'{{state="{found[2]}"}}') if found else (name, "")
        families.setdefault(f"dsa_{role}_{re.sub('[^a-zA-Z0-9_]', '_', family)}", []).append((label, value))
    lines = []
    for family, samples in families.items():
        text = _HELP.get(family.removeprefix(f"dsa_{role}_"))
        if text:
            lines.append(f"# HELP {family} {text}")
        lines.append(f"# TYPE {family} gauge")
        lines += [f"{family}{label} {value}" for label, value in samples]
    return "\n".join(lines) + "\n"


class MetricsServer:
    """Serves ``/metrics``; to be closed. Raises ConfigError if the port cannot be had."""

    def __init__(self, role: str, host: str, port: int, figures: Figures) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_S

            def do_GET(self) -> None:
                if self.path.partition("?")[0] not in ("/metrics", "/"):
                    self.send_error(404, "only /metrics is here")
                    return
                statistics = figures(ANSWER_S)
                if statistics is None:
                    self.send_error(503, f"the {role} did not answer within {ANSWER_S:g} s")
                    return
                body = exposition(role, statistics).encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Scrapes are nothing to log."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host.strip("[]"), port), Handler)
        except OSError as error:
            problem = f"metrics cannot be served at {host}:{port}: {error.strerror or error}"
            raise ConfigError(problem, "choose another port with --metrics") from error
        self.host = host
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""A local cluster whose servers live in network namespaces of their own, so that the kernel can cut them off. Needs root.

One bridge in the namespace of this process; each server is behind a pair of virtual interfaces. The addresses are of the
range that is kept for benchmarks (RFC 2544), and everything is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import msgspec

import dsa_zmq
from dsa_zmq.cluster_servers import MASTER
from dsa_zmq.config import MasterOptions, NodeOptions

SUBNET = f"198.18.{os.getpid() % 256}"
TAG = f"dsa{os.getpid() % 100_000}"


class Impossible(Exception):
    """Why this machine or this user cannot have network namespaces."""


def _ip(*words: str) -> None:
    ended = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Impossible(f"'ip {' '.join(words)}' says: {ended.stderr.strip() or f'status {ended.returncode}'}")


class Namespaces:
    """A context manager: one namespace a name."""

    def __init__(self, names: Sequence[str]) -> None:
        self.addresses = {name: f"{SUBNET}.{number}" for number, name in enumerate(names, 2)}

    def __enter__(self) -> Namespaces:
        if shutil.which("ip") is None:
            raise Impossible("there is no 'ip' command (iproute2)")
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            raise Impossible("only root may make network namespaces")
        try:
            _ip("link", "add", TAG, "type", "bridge")
            _ip("addr", "add", f"{SUBNET}.1/24", "dev", TAG)
            _ip("link", "set", TAG, "up")
            for name, address in self.addresses.items():
                space, port = self.space(name), self.port(name)
                _ip("netns", "add", space)
                _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
                _ip("link", "set", port, "master", TAG, "up")
                for words in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
                    _ip("-n", space, *words)
                _ip("-n", space, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for words in (*(["netns", "del", self.space(name)] for name in self.addresses), ["link", "del", TAG]):
            subprocess.run(["ip", *words], capture_output=True, check=False)  # what was never made cannot be removed

    @staticmethod
    def space(name: str) -> str:
        return f"{TAG}-{name}"

    def port(self, name: str) -> str:
        """The outer end of a server's cable; at most 15 characters."""
        return f"{TAG}v{list(self.addresses).index(name)}"

    def unplug(self, name: str) -> None:
        """Nothing gets to that server or from it, without a word to anybody."""
        _ip("link", "set", self.port(name), "down")

    def plug(self, name: str) -> None:
        _ip("link", "set", self.port(name), "up")

    def cut(self, a: str, b: str) -> None:
        """Nothing gets from one of the two to the other; everybody else reaches both."""
        for here, there in ((a, b), (b, a)):
            _ip("-n", self.space(here), "route", "add", "blackhole", f"{self.addresses[there]}/32")

    def mend(self, a: str, b: str) -> None:
        for here, there in ((a, b), (b, a)):
            _ip("-n", self.space(here), "route", "del", "blackhole", f"{self.addresses[there]}/32")


class NamespaceCluster(dsa_zmq.LocalCluster):
    """A cluster of processes, each in its namespace."""

    def __init__(self, spaces: Namespaces, **settings: Any) -> None:
        super().__init__(processes=True, **settings)
        self.spaces = spaces
        self._host = spaces.addresses[MASTER]

    def _prefix(self, name: str) -> Sequence[str]:
        return ("ip", "netns", "exec", self.spaces.space(name))

    def _master_options(self) -> MasterOptions:
        return msgspec.structs.replace(super()._master_options(), bind=self._host, insecure=True)

    def _node_options(self, name: str) -> NodeOptions:
        address = self.spaces.addresses[name]
        return msgspec.structs.replace(super()._node_options(name), bind=address, insecure=True)

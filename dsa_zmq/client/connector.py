"""How a store that was pickled connects anew: by whoever knows how to start a client."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dsa_zmq.errors import Unavailable

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

Connector = Callable[[str, Mapping[str, Any]], "Store"]
"""Makes a store from its address and options without saying hello: it connects at first use."""

_connector: Connector | None = None


def set_connector(connector: Connector) -> None:
    """Called once by the module that knows how to start a client, so that stores can be pickled."""
    global _connector
    _connector = connector


def reconnect(url: str, options: Mapping[str, Any]) -> Store:
    """A store as the one that was pickled."""
    if _connector is None:
        importlib.import_module("dsa_zmq.app")  # registers itself
    if _connector is None:
        raise Unavailable("no way to connect is registered")
    return _connector(url, options)

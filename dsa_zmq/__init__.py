"""DSA: a distributed, self-healing file store that you ``pip install``.

::

    import dsa_zmq

    with dsa_zmq.LocalCluster() as cluster, dsa_zmq.connect(cluster.url) as store:
        store.put("report.pdf", "/reports/may.pdf")

Every name below is imported at its first use, so that ``import dsa_zmq`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsa_zmq import errors
    from dsa_zmq.app import connect
    from dsa_zmq.client.store import Store
    from dsa_zmq.cluster import LocalCluster
    from dsa_zmq.errors import DSAError

__version__ = "0.1.0"

__all__ = ["DSAError", "LocalCluster", "Store", "__version__", "connect", "errors"]

_HOMES = {
    "DSAError": "dsa_zmq.errors",
    "LocalCluster": "dsa_zmq.cluster",
    "Store": "dsa_zmq.client.store",
    "connect": "dsa_zmq.app",
}


def __getattr__(name: str) -> object:
    import importlib

    if name == "errors":
        return importlib.import_module("dsa_zmq.errors")
    if name in _HOMES:
        value: object = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

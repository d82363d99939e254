"""The real runtime of the actor bus, over ZeroMQ."""

from actors.zmq.reactor import ZmqRuntime

__all__ = ["ZmqRuntime"]

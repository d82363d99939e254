"""Why nobody answers: looks at a host and port with plain TCP, since ZeroMQ itself never refuses and never says."""

from __future__ import annotations

import socket
import time

from dsa_zmq.errors import DSAError, Timeout, Unavailable
from dsa_zmq.model.addresses import split_endpoint

ZMTP_SIGNATURE = (b"\xff", b"\x7f")  #: first and tenth byte of the greeting (https://rfc.zeromq.org/spec/23/)
_GREETING_BYTES = 10  #: of 64: the signature. Both sides send it at once, without waiting for the other
LOOK_S = 1.0  #: long enough for any network, short beside the usual time-out


def explain_silence(endpoints: tuple[str, ...], waited_s: float, look_s: float = LOOK_S) -> DSAError:
    """The error for masters that did not answer within ``waited_s``: nobody there, or somebody else. Takes up to
    ``look_s`` (beyond it only to find the address of an unknown name)."""
    deadline = time.monotonic() + look_s
    errors = [_look(endpoint, waited_s, deadline) for endpoint in endpoints]
    if len(errors) == 1:
        return errors[0]
    return Unavailable("; ".join(error.message for error in errors), errors[0].remedy)


def _look(endpoint: str, waited_s: float, deadline: float) -> DSAError:
    host, port = split_endpoint(endpoint)
    at = endpoint.removeprefix("tcp://")
    try:
        greeting = _greeting(host, port, deadline)
    except socket.gaierror as error:
        return Unavailable(
            f"the host name '{host}' is not known: {error.strerror}", "check the spelling of the address"
        )
    except TimeoutError:
        return Unavailable(
            f"nobody answers at {at}: no connection within {waited_s:g} s",
            "check the address, and that no firewall is between",
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Unavailable(f"nobody answers at {at}: {reason}", "start a cluster with 'dsa up', or check the address")
    if greeting is None:
        return Unavailable(
            f"a program listens at {at}, but says nothing: a master that was stopped or hangs, or no master",
            "see to the process that has this port (a master usually listens at 7700)",
        )
    if len(greeting) < _GREETING_BYTES or (greeting[:1], greeting[9:10]) != ZMTP_SIGNATURE:
        return Unavailable(
            f"something else answers at {at}: it does not speak the DSA protocol",
            "check the port: a master usually listens at 7700",
        )
    return Timeout(
        f"a ZeroMQ program listens at {at}, but did not answer as a DSA master within {waited_s:g} s",
        "check the port (a master usually listens at 7700), or whether that master hangs",
    )


def _greeting(host: str, port: int, deadline: float) -> bytes | None:
    """The first bytes that the other side says by itself; fewer if it hangs up; None if it accepts and keeps silent, as the
    kernel does for a process that was stopped."""
    with socket.create_connection((host, port), timeout=max(0.05, deadline - time.monotonic())) as connection:
        got = b""
        try:
            while len(got) < _GREETING_BYTES:
                connection.settimeout(max(0.05, deadline - time.monotonic()))
                more = connection.recv(_GREETING_BYTES - len(got))
                if not more:
                    break
                got += more
        except TimeoutError:
            return got or None
        except OSError:
            return got
        return got

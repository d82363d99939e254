"""Sessions and the reply table: a request that is repeated has its effect once, and gets the same answer.

A client opens a session and numbers its changing operations. Each answer is kept with its effect, in one transaction, until
the client says that it needs it no more (``done_below`` raises the session's floor). What cannot be told from something
already done is never run: a request of an unknown session, and one below the floor, is answered "outcome unknown".
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dsa_zmq.errors import Invalid, OutcomeUnknown, Overloaded
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import REPLIES, SESSIONS, ReplyRow, SessionRow
from dsa_zmq.model.limits import MAX_OPEN_CALLS
from dsa_zmq.protocol.operations import CloseSession, Done, OpenSession, Result, SessionOpened

CLIENT_BYTES = 16


class SessionKey(NamedTuple):
    session: int


BY_CLIENT: Scan[SessionKey] = Scan(
    "SELECT session FROM sessions WHERE client = ? AND incarnation = ? ORDER BY session", SessionKey, (SESSIONS,)
)

REPLIES_OF: Scan[ReplyRow] = Scan(
    f"SELECT {REPLIES.columns} FROM replies WHERE session = ? ORDER BY number", ReplyRow, (REPLIES,), REPLIES
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Result).decode


def admit(rows: Rows, job: Request) -> SessionRow:
    """The session of a stored operation, its floor raised. OutcomeUnknown if the request must not be run."""
    session = rows.get(SESSIONS, job.session)
    if session is None:
        raise OutcomeUnknown(
            "this session has ended, or never was", "look whether the change was made, then go on in a new session"
        )
    if job.done_below > session.floor:
        old = _numbers_below(rows, session, job.done_below)
        for number in old:
            rows.delete(REPLIES, (job.session, number))
        session = SessionRow(
            session.session,
            session.client,
            session.incarnation,
            job.done_below,
            session.kept - len(old),
            session.used_ns,
        )
        rows.put(SESSIONS, session)
    if job.number < session.floor:
        raise OutcomeUnknown(f"request {job.number} was answered and forgotten", "look whether the change was made")
    return session


def _numbers_below(rows: Rows, session: SessionRow, bound: int) -> list[int]:
    """The kept replies that the floor passes: by looking for each number, or at each reply, whichever are fewer."""
    kept = rows.group_view(REPLIES, session.session)
    if bound - session.floor <= len(kept):
        return [number for number in range(session.floor, bound) if (session.session, number) in kept]
    return sorted(number for _, number in kept if number < bound)


def kept_answer(rows: Rows, job: Request) -> Result | None:
    """What this request was answered before."""
    reply = rows.get(REPLIES, (job.session, job.number))
    return None if reply is None else _decode(reply.body)


def check_room(session: SessionRow) -> None:
    """Overloaded if no further answer can be kept."""
    if session.kept >= MAX_OPEN_CALLS:
        raise Overloaded(
            f"{session.kept} answers of this session are not acknowledged", "acknowledge them (done_below), then repeat"
        )


def keep_answer(rows: Rows, job: Request, session: SessionRow, answer: Result) -> None:
    """Store the answer with its effect."""
    rows.put(REPLIES, ReplyRow(job.session, job.number, _encode(answer)))
    rows.put(
        SESSIONS,
        SessionRow(session.session, session.client, session.incarnation, session.floor, session.kept + 1, job.wall_ns),
    )


def open_session(rows: Rows, facts: Facts, job: Request, op: OpenSession) -> SessionOpened:
    if len(op.client) != CLIENT_BYTES:
        raise Invalid(f"a client's key has {CLIENT_BYTES} bytes, not {len(op.client)}")
    found = rows.scan(BY_CLIENT, op.client, op.incarnation)
    if found:
        known = rows.get(SESSIONS, found[0].session)
        assert known is not None, "the query has just shown it"
        if job.wall_ns > known.used_ns:
            rows.put(SESSIONS, known._replace(used_ns=job.wall_ns))
        return SessionOpened(known.session)
    session = rows.new_id()
    rows.put(SESSIONS, SessionRow(session, op.client, op.incarnation, 0, 0, job.wall_ns))
    return SessionOpened(session)


def close_session(rows: Rows, facts: Facts, job: Request, op: CloseSession) -> Done:
    session = rows.get(SESSIONS, op.session)
    if session is None:
        return Done(0)
    end_session(rows, session.session)
    return Done(1)


def end_session(rows: Rows, session: int) -> None:
    """Forget it with its answers. There are at most MAX_OPEN_CALLS."""
    for row in rows.scan(REPLIES_OF, session):
        rows.delete(REPLIES, (session, row.number))
    rows.delete(SESSIONS, session)

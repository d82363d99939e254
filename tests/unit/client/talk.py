"""A session with a master, turn by turn."""

from __future__ import annotations

from dsa_zmq.client.session import Session
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import Answer, Answers, Calls, Hello, Welcome
from dsa_zmq.protocol.values import Attributes

SECOND = 1_000_000_000
FOUND = op.Found(Attributes("file", 1))


class Talk:
    """A session, and what it sends and settles."""

    def __init__(self, hosts=("tcp://a:1",)):
        self.session = Session(hosts, b"c" * 16, 1, "test", request_timeout_ns=10 * SECOND)
        self.now = 0
        self.sent = []
        self.settled = {}
        self.tokens = 0

    def ask(self, operation):
        self.tokens += 1
        self.session.submit(operation, self.tokens, self.now)
        self.flush()
        return self.tokens

    def flush(self):
        self.sent += self.session.flush(self.now)

    def settle(self, settled):
        for token, result in settled:
            assert token not in self.settled
            self.settled[token] = result
        self.flush()

    def take(self, kind=Calls):
        """The messages sent since."""
        taken, self.sent = [message for _, message in self.sent if isinstance(message, kind)], []
        return taken

    def welcome(self, term=1, role="master", cluster=b"c" * 16):
        hello = self.take(Hello)[-1]
        self.settle(self.session.welcomed(Welcome(hello.number, 1, cluster, term, role), self.now))

    def answer(self, calls, result=FOUND, term=1):
        answers = [Answer(call.number, result) for call in calls.calls]
        self.settle(self.session.answers(Answers(term, answers), self.now))

    def open(self):
        """Answer the opening of a session."""
        (calls,) = self.take()
        assert isinstance(calls.calls[0].operation, op.OpenSession)
        self.answer(calls, op.SessionOpened(77))
        return calls.calls[0].operation

    def wait(self, seconds):
        for _ in range(round(seconds * 10)):
            self.now += SECOND // 10
            messages, settled = self.session.tick(self.now)
            self.sent += messages
            self.settle(settled)

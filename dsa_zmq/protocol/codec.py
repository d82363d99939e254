"""Messages to MessagePack and back. What does not decode is an error of the peer, never of ours."""

from __future__ import annotations

from typing import cast

import msgspec

from actors.core import Message
from actors.errors import ProtocolError
from dsa_zmq.protocol.messages import AnyMessage


class MessageCodec:
    """:class:`actors.core.Codec` for all messages of the store. Stateless; share one."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)

    def encode(self, message: Message) -> bytes:
        return self._encoder.encode(message)

    def decode(self, data: bytes | memoryview) -> Message:
        try:
            return cast(Message, self._decoder.decode(data))
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            raise ProtocolError(f"undecodable message: {error}") from None


CODEC = MessageCodec()

"""Frames to messages and back. What is not declared in ipc.messages is refused: version, tag, sender, fields, types."""

from __future__ import annotations

from typing import Any

import msgpack

from .messages import BY_TAG, SENDERS, TAGS, Peer
from .types import ProtocolError, forget_decoded, record_of, to_wire

VERSION = 1
LIMITS = {Peer.PARENT: 1 << 28, Peer.LOADER: 1 << 28}
"""Bytes of the longest frame by sender: configurations travel from the parent and the loader only."""
DEFAULT_LIMIT = 1 << 20


def limit_of(sender: Peer) -> int:
    """Bytes of the longest frame that `sender` may send."""
    return LIMITS.get(sender, DEFAULT_LIMIT)


def encode(msg: Any) -> bytes:
    """The frame of a message. TypeError for what is no message."""
    frame: bytes = msgpack.packb((VERSION, TAGS[type(msg)], msg), default=to_wire, unicode_errors="surrogateescape")
    return frame


def decode(frame: bytes | memoryview, sender: Peer) -> Any:
    """The message in a frame that came from `sender`. ProtocolError is its only failure."""
    if len(frame) > limit_of(sender):
        raise ProtocolError(f"frame of {len(frame)} bytes from {sender.value}")
    try:
        parts = msgpack.unpackb(frame, use_list=False, strict_map_key=True, unicode_errors="surrogateescape")
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as exc:
        raise ProtocolError(f"undecodable frame from {sender.value}") from exc
    if type(parts) is not tuple or len(parts) != 3:
        raise ProtocolError(f"not a message from {sender.value}")
    version, tag, body = parts
    cls = BY_TAG.get(tag) if version == VERSION and type(tag) is str else None
    if cls is None:
        raise ProtocolError(f"unknown message {tag!r}, version {version!r}")
    if sender not in SENDERS[cls]:
        raise ProtocolError(f"{sender.value} may not send {tag}")
    try:
        return record_of(cls).decode(body)
    except (TypeError, RecursionError) as exc:
        raise ProtocolError(f"{tag}: {exc}") from exc
    finally:
        forget_decoded()

"""A call as it arrives: what is read of it, step by step, and what its metadata asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from broker.domain.deadline import Deadline
from broker.domain.errors import Violation, invalid
from broker.domain.principal import Criticality, Principal
from broker.transport.call import Call, Endpoint
from broker.transport.drain import Running

PREFIX = "querybroker-"
REQUEST_ID = "x-request-id"
CRITICALITY = f"{PREFIX}criticality"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


@dataclass(slots=True)
class Arrival:
    """One call while it is served: what was read of it so far.

    ``raw`` is the message as it came; ``unknown`` is why the caller could not be identified at the door.
    """

    method: str
    endpoint: Endpoint
    metadata: Mapping[str, str]
    started: float
    request_id: str = ""
    message: Message | None = None
    raw: bytes = b""
    deadline: Deadline | None = None
    principal: Principal | None = None
    unknown: Exception | None = None
    call: Call | None = None
    running: Running | None = None

    def notes(self) -> Mapping[str, str]:
        """What the trailers and the log tell of the answer."""
        return self.call.notes() if self.call is not None else {}


def named(metadata: Mapping[str, str]) -> str:
    """The request id that the metadata brings, empty when there is none that is safe to repeat."""
    given = metadata.get(REQUEST_ID, "")
    return given if given and _SAFE_ID.fullmatch(given) else ""


def lowered(principal: Principal, metadata: Mapping[str, str]) -> Principal:
    """The principal with the criticality that the caller asks for; asking for more than it has changes nothing."""
    wanted = metadata.get(CRITICALITY)
    if wanted is None:
        return principal
    name = wanted.upper()
    if name not in Criticality.__members__:
        names = ", ".join(c.name.lower() for c in Criticality)
        text = f"{wanted[:64]!r} is not known; use one of {names}"
        raise invalid([Violation(f"metadata.{CRITICALITY}", text, "UNKNOWN_ENUM")])
    return replace(principal, criticality=min(principal.criticality, Criticality[name]))


def number(text: str, default: int) -> int:
    """The whole number in a text, or the default."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 12 else default

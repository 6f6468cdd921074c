"""Who is calling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from broker.domain.principal import Principal


class Authenticator(Protocol):
    """Turns call metadata into a principal. It looks at metadata of these ``names`` and at no other."""

    @property
    def names(self) -> frozenset[str]:
        """In lower case."""
        ...

    async def authenticate(self, metadata: Mapping[str, str], peer: str) -> Principal:
        """The caller's identity; ``peer`` is the transport's name of the other end, such as ``ipv4:127.0.0.1:5000``.

        Raises:
            BrokerError: UNAUTHENTICATED, saying which credentials are accepted.
        """
        ...

    def lasting(self, metadata: Mapping[str, str]) -> bool:
        """Whether a caller who was identified by this metadata will be the same whenever it comes again.

        Not so with credentials that expire, or that may be taken back while the process runs.
        """
        ...

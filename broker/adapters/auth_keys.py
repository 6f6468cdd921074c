"""API keys, known by their hashes only, and anonymous callers on loopback."""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.principal import Principal

PREFIX = "qb_"
"""Begins every key, so that secret scanners and people recognise one."""
_INDEX = 4
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_NAMES = frozenset({"authorization", "x-api-key", *_FORWARDED})
_ACCEPTED = "Send a key as `authorization: Bearer qb_...` or `x-api-key: qb_...`."

Bearer = Callable[[str], Awaitable[Principal]]
"""Turns a bearer token that is no API key into a principal; raises UNAUTHENTICATED."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A caller and the SHA-256 digests of its keys, several while a key is being replaced."""

    principal: Principal
    digests: tuple[bytes, ...]


def make_key(secret: bytes) -> str:
    """A key from random bytes; 24 of them or more."""
    return PREFIX + secret.hex()


def digest(key: str) -> bytes:
    """What is stored of a key. A plain hash is enough, because keys are random and long, unlike passwords."""
    return hashlib.sha256(key.encode()).digest()


class KeyAuthenticator:
    """Fulfils ``ports.Authenticator``.

    Candidates are found by the first bytes of the digest and compared in constant time. ``anonymous`` is who callers
    without credentials are, on loopback and unix sockets only; None refuses them everywhere. ``bearer`` takes tokens
    of other kinds.
    """

    def __init__(
        self, keys: Iterable[ApiKey], anonymous: Principal | None = None, bearer: Bearer | None = None
    ) -> None:
        index: defaultdict[bytes, list[tuple[bytes, Principal]]] = defaultdict(list)
        for key in keys:
            for stored in key.digests:
                index[stored[:_INDEX]].append((stored, key.principal))
        self._keys: Mapping[bytes, list[tuple[bytes, Principal]]] = dict(index)
        self._anonymous = anonymous
        self._bearer = bearer

    async def authenticate(self, metadata: Mapping[str, str], peer: str) -> Principal:
        """The caller's identity.

        Raises:
            BrokerError: UNAUTHENTICATED, saying which credentials are accepted.
        """
        token = _token(metadata)
        if token is None:
            return self._without_credentials(metadata, peer)
        if token.startswith(PREFIX) or self._bearer is None:
            return self._by_key(token)
        return await self._bearer(token)

    @property
    def names(self) -> frozenset[str]:
        """Where credentials stand, and what tells of a proxy."""
        return _NAMES

    def lasting(self, metadata: Mapping[str, str]) -> bool:
        """Keys last as long as the process, and so does having none; other tokens are asked about each time."""
        token = _token(metadata)
        return token is None or token.startswith(PREFIX) or self._bearer is None

    def _by_key(self, token: str) -> Principal:
        wanted = digest(token)
        found: Principal | None = None
        for stored, principal in self._keys.get(wanted[:_INDEX], ()):
            if hmac.compare_digest(stored, wanted):
                found = principal
        if found is None:
            raise _refused(f"The API key is not known. {_ACCEPTED}")
        return found

    def _without_credentials(self, metadata: Mapping[str, str], peer: str) -> Principal:
        if self._anonymous is None:
            raise _refused(f"Credentials are required. {_ACCEPTED}")
        if not local(peer) or any(name in metadata for name in _FORWARDED):
            raise _refused(f"Callers without credentials are let in from this machine only. {_ACCEPTED}")
        return self._anonymous


@lru_cache(maxsize=1 << 10)
def local(peer: str) -> bool:
    """Whether gRPC's name of the other end, such as ``ipv4:127.0.0.1:5000``, is on this machine."""
    kind, _, address = unquote(peer).partition(":")
    match kind:
        case "unix" | "unix-abstract":
            return True
        case "ipv4":
            return address.startswith("127.")
        case "ipv6":
            return address.startswith(("[::1]", "[::ffff:127."))
        case _:
            return False


def _token(metadata: Mapping[str, str]) -> str | None:
    """The credentials of a call; None when there are none."""
    header = metadata.get("authorization")
    if header is None:
        return metadata.get("x-api-key")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _refused(f"The authorization header is not understood. {_ACCEPTED}")
    return token.strip()


def _refused(text: str) -> BrokerError:
    return BrokerError(ErrorReason.UNAUTHENTICATED, text)

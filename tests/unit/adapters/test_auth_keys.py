"""Who is let in, by which credentials."""

from __future__ import annotations

import pytest

from broker.adapters.auth_keys import ApiKey, KeyAuthenticator, digest, local, make_key
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.principal import Principal

OLD, NEW, FOREIGN = (make_key(bytes([n]) * 24) for n in (1, 2, 3))
REPORTS = Principal("reports", "acme")
GUEST = Principal("anonymous", "default")
KEYS = [ApiKey(REPORTS, (digest(OLD), digest(NEW)))]
LOOPBACK = "ipv4:127.0.0.1:4000"


@pytest.mark.parametrize(
    "metadata",
    [
        {"x-api-key": OLD},
        {"x-api-key": NEW},
        {"authorization": f"Bearer {NEW}"},
        {"authorization": f"bearer  {NEW} "},
        {"authorization": f"Bearer {NEW}", "x-api-key": "ignored"},
    ],
)
async def test_a_key_names_its_caller_from_anywhere(metadata: dict[str, str]) -> None:
    assert await KeyAuthenticator(KEYS).authenticate(metadata, "ipv4:203.0.113.9:1") == REPORTS


@pytest.mark.parametrize(
    "metadata",
    [
        {"x-api-key": FOREIGN},
        {"x-api-key": ""},
        {"x-api-key": OLD[:-1]},
        {"authorization": OLD},
        {"authorization": "Bearer "},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"},
    ],
)
async def test_wrong_credentials_are_never_anonymous(metadata: dict[str, str]) -> None:
    with pytest.raises(BrokerError) as caught:
        await KeyAuthenticator(KEYS, GUEST).authenticate(metadata, LOOPBACK)
    assert caught.value.reason is ErrorReason.UNAUTHENTICATED
    assert OLD[:-1] not in caught.value.message


@pytest.mark.parametrize("peer", [LOOPBACK, "ipv6:[::1]:9", "ipv6:%5B::1%5D:9", "unix:", "unix:/run/b.sock"])
async def test_callers_without_credentials_are_let_in_on_this_machine(peer: str) -> None:
    assert await KeyAuthenticator(KEYS, GUEST).authenticate({}, peer) == GUEST


@pytest.mark.parametrize(
    ("metadata", "peer"),
    [
        ({}, "ipv4:203.0.113.9:1"),
        ({}, "ipv6:[2001:db8::1]:9"),
        ({}, "ipv4:12.7.0.1:1"),
        ({}, "dns:localhost"),
        ({}, ""),
        ({"x-forwarded-for": "203.0.113.9"}, LOOPBACK),
        ({"forwarded": "for=203.0.113.9"}, LOOPBACK),
    ],
)
async def test_callers_without_credentials_are_refused_from_elsewhere(
    metadata: dict[str, str], peer: str
) -> None:
    with pytest.raises(BrokerError, match="this machine only"):
        await KeyAuthenticator(KEYS, GUEST).authenticate(metadata, peer)


async def test_without_an_anonymous_principal_everybody_needs_credentials() -> None:
    with pytest.raises(BrokerError, match="Credentials are required"):
        await KeyAuthenticator(KEYS).authenticate({}, LOOPBACK)


async def test_tokens_of_another_kind_go_to_their_own_verifier() -> None:
    async def verify(token: str) -> Principal:
        return Principal(f"jwt:{token}", "acme")

    keys = KeyAuthenticator(KEYS, bearer=verify)
    assert (await keys.authenticate({"authorization": "Bearer abc"}, LOOPBACK)).name == "jwt:abc"
    assert await keys.authenticate({"authorization": f"Bearer {OLD}"}, LOOPBACK) == REPORTS


def test_a_mapped_address_of_loopback_is_local() -> None:
    assert local("ipv6:[::ffff:127.0.0.1]:1")
    assert not local("ipv6:[::ffff:203.0.113.9]:1")

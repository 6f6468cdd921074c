"""The schema of who may call, and what follows from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from broker.config.base import Count, Name, Section, TenantName, Text

KeyHash = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class CriticalityName(StrEnum):
    """Criticality of a caller's requests; the least critical are shed first."""

    SHEDDABLE = "sheddable"
    SHEDDABLE_PLUS = "sheddable_plus"
    CRITICAL = "critical"
    CRITICAL_PLUS = "critical_plus"


class IdentityConfig(Section):
    """What follows from who is calling."""

    tenant: TenantName = "default"
    """Tenant that the caller works for."""
    grants: list[Text] = Field(default_factory=list)
    """What the caller may do: grants that datasets ask for, `sql`, `explain.statements`, `jobs.read_all`, `admin`;
    `*` stands for all."""
    criticality: CriticalityName = CriticalityName.CRITICAL
    """Highest criticality of the caller's requests."""
    attributes: dict[Name, str] = Field(default_factory=dict)
    """Values for row policies, beside those of the tenant."""


class AnonymousConfig(IdentityConfig):
    """Callers without credentials. They are let in from loopback only, whatever is configured here."""

    enabled: bool | None = None
    """Whether they are let in. Unset: only as long as there are no API keys."""
    grants: list[Text] = Field(default_factory=lambda: ["*"])
    """What they may do."""


class ApiKeyConfig(IdentityConfig):
    """A caller that authenticates by an API key."""

    hashes: Annotated[list[KeyHash], Field(min_length=1)]
    """SHA-256 of the key, as `sha256:` and 64 hexadecimal digits (`printf %s "$KEY" | sha256sum`). Several while a key
    is being replaced."""


class AuthConfig(Section):
    """Who may call."""

    anonymous: AnonymousConfig = AnonymousConfig()
    """Callers without credentials."""
    api_keys: dict[Name, ApiKeyConfig] = Field(default_factory=dict)
    """Callers with an API key, by name; the name appears in logs and owns the caller's jobs."""


class TenantLimitsConfig(Section):
    """What a tenant may ask of the broker."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Its share of the seats beside other tenants: 2 gets twice as much as 1."""
    in_flight: Count | None = None
    """Most of its requests that may run or wait at once, in all pools. Unset: any number."""
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Most of its requests per second, on average. Unset: any number."""
    burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Requests beyond the rate that may come at once."""


class TenantConfig(TenantLimitsConfig):
    """What holds for all callers of a tenant. Limits that are not set are those of `tenant_limits`."""

    criticality: CriticalityName = CriticalityName.CRITICAL_PLUS
    """Highest criticality of the tenant's requests."""
    attributes: dict[Name, str] = Field(default_factory=dict)
    """Values for row policies; a caller's own come first."""

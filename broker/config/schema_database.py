"""The schema of the analytical database: addresses, connections, and how much it is given to do at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from broker.config.base import Count, Name, Section, Text, or_text
from broker.config.units import Duration, Size
from broker.domain.pool import LimitMode


class LimitConfig(Section):
    """Seats of a database: requests that may be at work on it at the same time."""

    mode: LimitMode = LimitMode.STATIC
    """How the seats follow the database: `static` not at all, `adaptive` by the speed of its queries and by what it
    says about itself, `shadow` only in what is reported."""
    seats: Count | None = None
    """Seats of a static limit, and those that an adaptive one begins with and falls back to. Unset: twice the
    processors for a database on this machine, else as many as the largest of its pools has connections; at least 4."""
    floor: Count | None = None
    """Fewest seats of an adaptive limit. Unset: a tenth of `seats`, at least 2."""
    ceiling: Count | None = None
    """Most seats of an adaptive limit. Unset: four times `seats`, as far as the connections of its pools go."""
    memory: Size = 0
    """Memory that requests at work may be predicted to need together; 0 for no bound."""


class ReplicaConfig(Section):
    """A read-only replica. Its address alone may stand for it."""

    model_config = or_text("dsn")

    dsn: Text
    """Address, as for the primary."""
    limit: LimitConfig = LimitConfig()
    """Seats of the replica."""

    @model_validator(mode="before")
    @classmethod
    def _address_alone(cls, data: object) -> object:
        return {"dsn": data} if isinstance(data, str) else data


class DatabaseConfig(Section):
    """The analytical PostgreSQL."""

    dsn: str = ""
    """Address, as `postgresql://user:password@host:5432/database`; server settings may follow, as `?work_mem=64MB`.
    Empty: the variable `DATABASE_URL`, or what the variables of libpq (`PGHOST`, `PGUSER`, `PGDATABASE`, …) say."""
    limit: LimitConfig = LimitConfig()
    """Seats of the primary."""
    replicas: dict[Name, ReplicaConfig] = Field(default_factory=dict)
    """Read-only replicas by name; pools name the one they read from."""
    application_name: Text = "querybroker"
    """Name under which the database shows the connections."""
    connect_timeout: Annotated[Duration, Field(gt=0)] = 5
    """Longest time to make a connection."""
    idle_connection: Annotated[Duration, Field(gt=0)] = 600
    """A connection that was not used for this long is closed."""
    idle_transaction: Annotated[Duration, Field(gt=0)] = 60
    """The server ends a transaction in which nothing was asked for this long."""
    prepared_statements: Annotated[int, Field(ge=0)] = 200
    """Statements that each connection keeps prepared."""

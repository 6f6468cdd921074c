"""How many connections a server offers to the pools that share it."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.pool import PoolName

CAPACITY = """
SELECT
  current_setting('max_connections')::int,
  current_setting('superuser_reserved_connections')::int
    + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
  (SELECT sum(numbackends) FROM pg_stat_database)::int,
  (SELECT min(n) FROM (
     SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user
     UNION ALL SELECT datconnlimit FROM pg_database WHERE datname = current_database()
   ) AS limits (n) WHERE n >= 0)
"""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many connections a server offers, and how many the broker may open there.

    ``reserved`` are kept for superusers, ``others`` in use by other programs at the time of the check; ``own_limit`` is
    the limit of the broker's role or database, None without one.
    """

    pools: tuple[PoolName, ...]
    wanted: int
    max_connections: int
    reserved: int
    others: int
    own_limit: int | None = None

    @property
    def available(self) -> int:
        """Connections that are left for the broker."""
        left = max(0, self.max_connections - self.reserved - self.others)
        return left if self.own_limit is None else min(left, self.own_limit)

    @property
    def fits(self) -> bool:
        """Whether all pools can be full at once."""
        return self.wanted <= self.available

    @property
    def message(self) -> str:
        """What is wrong and what to do; empty when everything fits."""
        if self.fits:
            return ""
        own = (
            f", and {self.own_limit} for the broker's role or database" if self.own_limit is not None else ""
        )
        return (
            f"The pools {', '.join(self.pools)} may open {self.wanted} connections, but PostgreSQL has "
            f"{self.available} left: max_connections is {self.max_connections}, of which {self.reserved} are reserved "
            f"and {self.others} in use by others{own}. Lower `connections` of the pools, or raise max_connections."
        )

"""The method of AdminService over the cache."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.errors import Violation, invalid
from broker.transport.call import Call, Endpoint, unary
from broker.transport.decode_job import interval, rollup_name
from broker.transport.decode_list import dataset_name
from broker.transport.decode_values import Found
from broker.transport.services import CacheApp
from querybroker.v1 import admin_service_pb2 as pb

GRANT = "admin"


@dataclass(frozen=True, slots=True)
class CacheMethods:
    """Operates the cache; it needs the grant ``admin``."""

    app: CacheApp

    def endpoint(self) -> Endpoint:
        """The method."""
        return unary(pb.InvalidateCacheRequest, self.invalidate)

    async def invalidate(self, call: Call, request: pb.InvalidateCacheRequest) -> bytes:
        """Removes held answers."""
        call.require(GRANT)
        found: Found = []
        dataset = dataset_name(request.dataset, "dataset") if request.dataset else ""
        owner, rollup = rollup_name(request.rollup, "rollup", found) if request.rollup else (dataset, "")
        within = interval(request.interval, "interval", found) if request.HasField("interval") else None
        if rollup and dataset not in ("", owner):
            found.append(
                Violation("rollup", f"is none of {request.dataset}; leave dataset out", "NOT_ALLOWED")
            )
        if found:
            raise invalid(found)
        count = await self.app.invalidate(owner, rollup, within)
        return pb.InvalidateCacheResponse(removed_count=count).SerializeToString()

"""The schema of the configuration file, from which the reference and the JSON schema are generated."""

from __future__ import annotations

from pydantic import Field

from broker.config.base import Name, Section, TenantName
from broker.config.schema_access import AuthConfig, TenantConfig, TenantLimitsConfig
from broker.config.schema_cache import CacheConfig
from broker.config.schema_data import DatasetConfig
from broker.config.schema_database import DatabaseConfig
from broker.config.schema_pools import PoolsConfig
from broker.config.schema_runtime import (
    ClusterConfig,
    FleetConfig,
    JobsConfig,
    RollupsConfig,
    TelemetryConfig,
)
from broker.config.schema_server import ServerConfig


class Config(Section):
    """Configuration of a query broker."""

    database: DatabaseConfig = DatabaseConfig()
    """The analytical PostgreSQL."""
    datasets: dict[Name, DatasetConfig] = Field(default_factory=dict)
    """What can be asked."""
    server: ServerConfig = ServerConfig()
    """The gRPC server."""
    auth: AuthConfig = AuthConfig()
    """Who may call."""
    tenants: dict[TenantName, TenantConfig] = Field(default_factory=dict)
    """The tenants. When any is given, every caller's tenant must be one of them."""
    tenant_limits: TenantLimitsConfig = TenantLimitsConfig(weight=1, burst=10)
    """Limits of every tenant that does not set its own."""
    pools: PoolsConfig = PoolsConfig()
    """The executor pools."""
    jobs: JobsConfig = JobsConfig()
    """Durable jobs."""
    rollups: RollupsConfig = RollupsConfig()
    """Serving and keeping rollups."""
    cache: CacheConfig = CacheConfig()
    """Answers that are held."""
    fleet: FleetConfig = FleetConfig()
    """Sharing seats with other processes."""
    cluster: ClusterConfig = ClusterConfig()
    """Calculations on other machines."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """Traces, metrics and logs."""

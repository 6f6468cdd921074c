"""Everything the processes are started with, decided: one frozen tree. Durations are in seconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.domain.pool import BackendLimits, PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Principal
from broker.policy.class_rules import ClassLimits


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """The analytical PostgreSQL. ``replicas`` has addresses, ``limits`` those of primary and replicas."""

    dsn: str
    replicas: Mapping[str, str]
    limits: Mapping[str, BackendLimits]
    application_name: str
    connect_timeout: float
    idle_connection: float
    idle_transaction: float
    prepared_statements: int


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """PEM files of the server; ``client_ca`` is None when clients need no certificate."""

    certificate: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True, slots=True)
class DeadlineLimits:
    """Deadline of a call that brings none, and the longest one."""

    default: float
    cap: float


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Deadline limits by method name, such as ``Dashboard``; ``other`` holds for methods that are not listed."""

    methods: Mapping[str, DeadlineLimits]
    other: DeadlineLimits

    def of(self, method: str) -> DeadlineLimits:
        """The limits of a method, given bare or as ``package.Service/Method``."""
        return self.methods.get(method.rpartition("/")[2], self.other)


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """Largest answer. ``max_scan_bytes`` bounds what the database may return for it, where it is held in memory."""

    max_rows: int
    max_bytes: int
    max_scan_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The gRPC server. ``sql_functions`` are allowed in SQL beside the built-in list.

    ``memory_limit`` is 0 for that of the container or machine, ``decision_log`` None for no log.
    """

    host: str
    port: int
    tls: TlsSettings | None
    deadlines: Deadlines
    max_receive_bytes: int
    max_send_bytes: int
    max_panels: int
    dashboard: AnswerLimits
    explore: AnswerLimits
    batch_bytes: int
    sql_enabled: bool
    sql_functions: frozenset[str]
    classes: ClassLimits
    reflection: bool
    drain_notice: float
    drain_grace: float
    memory_limit: int = 0
    lag_limit: float = 0.05
    stream_stall: float = 10.0
    decision_log: Path | None = None
    decision_log_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A caller with an API key; each of ``hashes`` is the SHA-256 of a valid key, 32 bytes."""

    hashes: tuple[bytes, ...]
    principal: Principal


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who may call. ``anonymous`` is the principal of callers on loopback without credentials, None to refuse them."""

    anonymous: Principal | None
    api_keys: tuple[ApiKey, ...]


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Durable jobs. ``slots`` are jobs that one worker process runs at once.

    Results are in the bucket that ``results`` names, or else in ``result_dir``. ``kinds`` are those of the operator, by
    name, as ``module:attribute``. ``materialized_bytes`` bounds a dataset that a job makes, and ``export_range``
    is about how many bytes a range of an export has.
    """

    dsn: str
    result_dir: Path
    slots: int
    lease: float
    retention: float
    record_retention: float
    attempt_timeout: float
    max_attempts: int
    tenant_running: int | None
    kind_running: Mapping[str, int]
    tenant_queue: int
    queue: int
    queue_age: float
    results: str = ""
    kinds: Mapping[str, str] = field(default_factory=dict)
    materialized_bytes: int = 32 << 20
    export_range: int = 256 << 20


@dataclass(frozen=True, slots=True)
class RollupSettings:
    """Serving and keeping rollups: local copies, who refreshes, which share of answers is computed again.

    ``keep`` is how long replaced segments stay, in seconds. ``query_log`` is None where questions are not recorded.
    """

    mirror_dir: Path
    mirror_bytes: int
    refresh: bool
    verify_share: float
    keep: float
    query_log: Path | None = None


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Answers that are held: ``memory`` bytes in each process, and at ``shared``, an address that may hold a password.

    Names of keys there begin with ``prefix`` and, where nobody has ``prefix_given``, a name for the database.
    ``timeout``, ages and ``poll`` are in seconds, ``max_entry`` in bytes.
    """

    memory: int = 0
    shared: str = ""
    timeout: float = 0.05
    prefix: str = "querybroker"
    prefix_given: bool = True
    max_entry: int = 1024 * 1024
    soft_age: float = 0.0
    hard_age: float = 86_400.0
    poll: float = 0.25

    @property
    def enabled(self) -> bool:
        """Whether answers are held at all."""
        return bool(self.memory or self.shared)


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Sharing seats with the processes of the same ``name``."""

    enabled: bool
    name: str


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Calculations of ``pools`` on a Dask cluster, from ``smallest`` bytes on; an empty address means none."""

    address: str = ""
    pools: frozenset[PoolName] = frozenset()
    smallest: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Traces, metrics and logs. An empty endpoint or port 0 means none."""

    service_name: str
    otlp_endpoint: str
    sampling_ratio: float
    prometheus_host: str
    prometheus_port: int
    log_level: str
    log_format: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration without the model. Tenants that are not declared are limited by ``default_tenant``."""

    database: DatabaseSettings
    server: ServerSettings
    pools: Mapping[PoolName, PoolLimits]
    auth: AuthSettings
    tenants: Mapping[str, TenantLimits]
    default_tenant: TenantLimits
    jobs: JobSettings
    rollups: RollupSettings
    fleet: FleetSettings
    telemetry: TelemetrySettings
    cache: CacheSettings = CacheSettings()
    cluster: ClusterSettings = ClusterSettings()

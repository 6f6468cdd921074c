"""The schema of what the processes work with: the database, the executor pools, jobs, telemetry."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from broker.config.base import PRESET, Count, Name, Port, Section, Text
from broker.config.units import GIB, MIB, Duration, Size


class DatabaseConfig(Section):
    """The analytical PostgreSQL."""

    dsn: str = ""
    """Address, as `postgresql://user:password@host:5432/database`; server settings may follow, as `?work_mem=64MB`.
    Empty: the variable `DATABASE_URL`, or what the variables of libpq (`PGHOST`, `PGUSER`, `PGDATABASE`, …) say."""
    replicas: dict[Name, Text] = Field(default_factory=dict)
    """Read-only replicas by name, each with its address; pools name the one they read from."""
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


class PoolConfig(Section):
    """What every executor pool has."""

    model_config = PRESET

    in_flight: Count
    """Requests that run at once."""
    connections: Count | None = None
    """Database connections. Unset: from the number of processors."""
    replica: str = ""
    """Name of the replica in `database.replicas` that this pool reads from. Empty: the primary."""


class AdminPoolConfig(PoolConfig):
    """The pool of short questions about questions, which need no calculations."""

    queue: Annotated[int, Field(ge=0)]
    """Requests that may wait for a seat."""
    wait_fraction: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of a caller's remaining time that may be spent waiting for a seat."""


class QueryPoolConfig(AdminPoolConfig):
    """A pool of queries whose caller waits."""

    workers: Count | None = None
    """Worker processes for calculations. Unset: from the number of processors."""
    worker_memory: Annotated[Size, Field(ge=128 * MIB)] = 1 * GIB
    """Memory that one worker process may take."""


class JobPoolConfig(PoolConfig):
    """The pool of jobs, whose queue is in the database and has no bound."""

    worker_memory: Annotated[Size, Field(ge=128 * MIB)] = 1 * GIB
    """Memory that the process of one job may take."""


class PoolsConfig(Section):
    """The executor pools. Each has its own seats and connections, and worker processes where it calculates."""

    dashboard: QueryPoolConfig = QueryPoolConfig(in_flight=100, queue=1000)
    """Dashboards."""
    exploration: QueryPoolConfig = QueryPoolConfig(in_flight=10, queue=50)
    """Explorations."""
    job: JobPoolConfig = JobPoolConfig(in_flight=5)
    """Jobs, in the process `broker worker`."""
    admin: AdminPoolConfig = AdminPoolConfig(in_flight=2, queue=10)
    """Estimates and the reading of SQL; health checks take a connection of it, and no seat."""


class LogLevel(StrEnum):
    """Least important log lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """One JSON object per line, text for people, or what suits the output."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class JobsConfig(Section):
    """Durable jobs."""

    dsn: str = ""
    """Address of the database with the job tables. Empty: the analytical one."""
    result_dir: Text = "querybroker-results"
    """Folder of result files, shared by broker and workers; relative to the configuration file."""
    slots: Count | None = None
    """Jobs that one worker process runs at once. Unset: `in_flight` of the job pool."""
    lease: Annotated[Duration, Field(ge=1, le=600)] = 10
    """A worker that has not been heard of for this long has lost its jobs."""
    retention: Annotated[Duration, Field(ge=60)] = 7 * 86400
    """Time that a result is kept."""
    record_retention: Annotated[Duration, Field(ge=60)] = 30 * 86400
    """Time that the record of a finished job is kept, and its request id remembered."""
    attempt_timeout: Annotated[Duration, Field(ge=1)] = 6 * 3600
    """Longest time of one attempt."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Attempts before a job has failed."""


class TelemetryConfig(Section):
    """Traces, metrics and logs."""

    service_name: Text = "querybroker"
    """Name under which the process reports. Also read from `OTEL_SERVICE_NAME`."""
    otlp_endpoint: str = ""
    """Collector for traces and metrics, as `http://localhost:4317`. Empty: none. Also read from
    `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    sampling_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of traces that are kept when the caller has not decided."""
    prometheus_host: Text = "127.0.0.1"
    """Address of the Prometheus endpoint."""
    prometheus_port: Port = 0
    """Port of the Prometheus endpoint, 9464 by custom; 0 for none. Processes on one machine need one each."""
    log_level: LogLevel = LogLevel.INFO
    """Least important log lines that are written."""
    log_format: LogFormat = LogFormat.AUTO
    """JSON for machines, text for people; auto is text on a terminal and JSON elsewhere."""

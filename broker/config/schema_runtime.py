"""The schema of what the processes do beside serving: jobs, telemetry."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from broker.config.base import Count, Name, Port, Section, Text
from broker.config.units import GIB, MIB, Duration, Size


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
    results: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]*(/[\w.-]+)*/?)?$")] = ""
    """Bucket for result files, as `s3://bucket/prefix`, with the extra `s3`; the environment has address and keys.
    Empty: the folder `result_dir`, which otherwise has room for what is on its way to the bucket."""
    slots: Count | None = None
    """Jobs that one worker process runs at once. Unset: `in_flight` of the job pool."""
    lease: Annotated[Duration, Field(ge=1, le=600)] = 10
    """A worker that has not been heard of for this long has lost its jobs."""
    retention: Annotated[Duration, Field(ge=60)] = 7 * 86400
    """Time that a result is kept."""
    materialized_bytes: Size = 32 * MIB
    """Largest dataset that a job may make. A process that answers from such datasets holds four times as much."""
    export_range: Annotated[Size, Field(ge=1 * MIB)] = 256 * MIB
    """An export that is expected to have twice as much, by the planner's estimate of its rows, is cut into ranges of
    about this size, which all workers with a free slot write together; into 64 at most."""
    record_retention: Annotated[Duration, Field(ge=60)] = 30 * 86400
    """Time that the record of a finished job is kept, and its request id remembered."""
    attempt_timeout: Annotated[Duration, Field(ge=1)] = 6 * 3600
    """Longest time of one attempt."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Attempts before a job has failed."""
    tenant_running: Count | None = None
    """Most jobs of one tenant that run at once, on all workers, which must agree on it. Unset: any number."""
    kind_running: dict[Text, Count] = Field(default_factory=dict)
    """Most jobs of a kind that run at once, on all workers, by kind: `{export: 4}`. Unset: any number."""
    tenant_queue: Count = 1_000
    """Most jobs of one tenant that wait; more are refused."""
    queue: Count = 10_000
    """Most jobs that wait; more are refused."""
    queue_age: Annotated[Duration, Field(ge=1)] = 3600
    """A tenant whose oldest job has waited for this long may submit no more until it has begun."""
    kinds: dict[Name, Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]] = Field(
        default_factory=dict
    )
    """Kinds of job of your own, each a class as `module:name`; submitted as `custom` with the name given here."""


class ClusterPool(StrEnum):
    """A pool whose calculations may be done elsewhere."""

    DASHBOARD = "dashboard"
    EXPLORATION = "exploration"
    JOB = "job"


class ClusterConfig(Section):
    """Worker processes on the machines of a Dask cluster, for calculations that are worth the way; extra `dask`."""

    address: Annotated[str, Field(pattern=r"^((tcp|tls)://\S+:\d+)?$")] = ""
    """The cluster's scheduler, as `tcp://host:8786`. Empty: all calculations stay on the machine of the process."""
    pools: list[ClusterPool] = Field(default_factory=lambda: [ClusterPool.EXPLORATION, ClusterPool.JOB])
    """Pools whose calculations may go there. Those of rollups belong to `job`."""
    smallest: Size = 1 * MIB
    """Calculations that get less than this from the database stay here: the way takes ten milliseconds and more."""


class FleetConfig(Section):
    """Sharing the seats of databases with other processes, by leases that are kept in the database of `jobs.dsn`."""

    enabled: bool = True
    """Whether seats are shared. Otherwise every process takes as many as the settings give, whoever else does."""
    name: Text = "querybroker"
    """Processes with one name share. Brokers of another database need another name where `jobs.dsn` is the same."""


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
    """Port of the Prometheus endpoint, 9464 by custom; 0 for none. Processes on one machine need one each;
    `serve --processes` takes this one and those after it."""
    log_level: LogLevel = LogLevel.INFO
    """Least important log lines that are written."""
    log_format: LogFormat = LogFormat.AUTO
    """JSON for machines, text for people; auto is text on a terminal and JSON elsewhere."""


class RollupsConfig(Section):
    """Serving and keeping rollups; what they hold is declared under their datasets."""

    mirror_dir: Text = "querybroker-mirror"
    """Folder of local copies of segments, shared by the processes of a host; relative to the configuration file."""
    mirror_size: Size = 2 * GIB
    """Bytes that the copies may take; those that were not used for longest go first."""
    refresh: bool = True
    """Whether `broker worker` builds and refreshes rollups on its own, each partition by one worker at a time. Rollups
    can always be refreshed by `broker rollup refresh`."""
    verify_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the answers of rollups that are computed again from the source, in idle seats."""
    keep: Annotated[Duration, Field(ge=60)] = 3600.0
    """Time that replaced segments are kept for answers under way."""
    query_log: str = ""
    """Folder in which each process counts the kinds of questions that it is asked, each with an example, for
    `broker rollup advise`; relative to the configuration file. Its files hold values of filters. Empty: none."""

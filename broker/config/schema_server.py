"""The schema of the gRPC server: address, deadlines, limits of answers, SQL, shutting down."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broker.config.base import PRESET, Count, Name, Port, Section, Text
from broker.config.units import GIB, MIB, Duration, Size


class TlsConfig(Section):
    """Certificates of the server. Paths are relative to the configuration file."""

    certificate: Text
    """PEM file with the certificate chain."""
    key: Text
    """PEM file with the private key."""
    client_ca: str = ""
    """PEM file with the authorities of client certificates; when set, clients must present one."""


class DeadlineConfig(Section):
    """Time that a call may take."""

    model_config = PRESET

    default: Duration
    """Deadline of a call that brings none."""
    cap: Duration
    """Longest deadline; longer ones are cut to it."""


class DeadlinesConfig(Section):
    """Deadlines by method."""

    dashboard: DeadlineConfig = DeadlineConfig(default=10, cap=60)
    """QueryService.Dashboard."""
    explore: DeadlineConfig = DeadlineConfig(default=30, cap=600)
    """QueryService.Explore."""
    explain: DeadlineConfig = DeadlineConfig(default=5, cap=30)
    """QueryService.Explain."""
    submit_job: DeadlineConfig = DeadlineConfig(default=10, cap=60)
    """JobService.SubmitJob; the job itself goes on."""
    watch_job: DeadlineConfig = DeadlineConfig(default=3600, cap=86400)
    """JobService.WatchJob, and WatchState of the administrator."""
    read_job_result: DeadlineConfig = DeadlineConfig(default=600, cap=86400)
    """JobService.ReadJobResult."""
    wait_operation: DeadlineConfig = DeadlineConfig(default=60, cap=600)
    """Operations.WaitOperation."""
    verify_rollup: DeadlineConfig = DeadlineConfig(default=60, cap=600)
    """AdminService.VerifyRollup."""
    other: DeadlineConfig = DeadlineConfig(default=10, cap=60)
    """Every other method."""


class AnswerLimitsConfig(Section):
    """Largest answers."""

    model_config = PRESET

    max_rows: Count
    """Rows of one answer."""
    max_bytes: Size
    """Encoded bytes of one answer."""


class PanelLimitsConfig(AnswerLimitsConfig):
    """Largest answers that are held in memory whole."""

    max_scan_bytes: Size = 256 * MIB
    """Bytes that the database may return for one answer."""


class SqlConfig(Section):
    """Explorations in SQL. A caller needs the grant `sql` besides."""

    enabled: bool = False
    """Whether SQL is taken at all."""
    functions: list[Name] = Field(default_factory=list)
    """Functions of the database that are allowed in addition to the built-in list; they must not be volatile."""


class ClassesConfig(Section):
    """Where classes of requests end, by what the work is expected to take."""

    dashboard: Annotated[Duration, Field(gt=0)] = 10
    """A panel that is expected to take longer runs in the seats of explorations."""
    exploration: Annotated[Duration, Field(gt=0)] = 30
    """An exploration that is expected to take longer should be a job."""
    offer_job: bool = True
    """Whether such an exploration is refused with `USE_SUBMIT_JOB`. Otherwise it runs, as far as its deadline lets
    it."""


class DrainConfig(Section):
    """Shutting down."""

    notice: Duration | None = None
    """Time between reporting not serving and refusing calls, for load balancers to notice. Unset: 5 s, and none on
    loopback."""
    grace: Duration = 30
    """Time that running calls have to end."""


class ServerConfig(Section):
    """The gRPC server."""

    host: Text = "127.0.0.1"
    """Address to listen on; `0.0.0.0` or `::` for all."""
    port: Port = 50051
    """TCP port; 0 takes a free one."""
    tls: TlsConfig | None = None
    """Certificates. Without them the server speaks plain HTTP/2, for loopback or behind a mesh."""
    deadlines: DeadlinesConfig = DeadlinesConfig()
    """Default and longest deadline of each method."""
    max_receive_bytes: Annotated[Size, Field(ge=1024)] = 4 * MIB
    """Largest request message."""
    max_send_bytes: Annotated[Size, Field(ge=64 * 1024)] = 32 * MIB
    """Largest response message; a client must accept as much."""
    max_panels: Annotated[int, Field(ge=1, le=64)] = 64
    """Panels of one dashboard."""
    dashboard: PanelLimitsConfig = PanelLimitsConfig(max_rows=100_000, max_bytes=8 * MIB)
    """Largest answer of a panel."""
    explore: AnswerLimitsConfig = AnswerLimitsConfig(max_rows=100_000_000, max_bytes=16 * GIB)
    """Largest answer of an exploration."""
    batch_bytes: Annotated[Size, Field(ge=64 * 1024, le=16 * MIB)] = 1 * MIB
    """Size that batches of a streamed answer aim at."""
    sql: SqlConfig = SqlConfig()
    """Explorations in SQL."""
    classes: ClassesConfig = ClassesConfig()
    """Where classes of requests end."""
    memory_limit: Size = 0
    """Memory that the process of the server may use: near it, new calls are refused and the largest streams ended. 0:
    what its container may use, or the machine."""
    lag_limit: Annotated[Duration, Field(ge=0.01)] = 0.05
    """Lag of the event loop at which calls that can be shed are refused; at five times as much, all but the most
    important ones. Machines that the broker shares with other work may allow more."""
    stream_stall: Duration = 10
    """Time that the reader of an exploration may take nothing of it before the stream is ended and its seat given to
    others; 0 for as long as its deadline. Clients tell of what they have read in steps, of up to some 4 MB: who reads
    less than one step in this time seems to take nothing."""
    decision_log: str = ""
    """File for every event and decision of the admission, one JSON text on a line, to be played again with
    `broker simulate`. Relative to the configuration file. Empty: none."""
    decision_log_bytes: Annotated[Size, Field(ge=MIB)] = 256 * MIB
    """Largest size of that file; a full one is kept beside the next with the ending `.1`."""
    reflection: bool = True
    """Whether clients may ask for the contract, as grpcurl does."""
    drain: DrainConfig = DrainConfig()
    """Shutting down."""

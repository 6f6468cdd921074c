"""Turns the schema into settings: what is unset is derived, names are resolved, rules across sections are checked."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path as FilePath

from broker.config.access import build_auth
from broker.config.document import Path
from broker.config.findings import Severity
from broker.config.machine import Machine
from broker.config.report import Report
from broker.config.schema import Config
from broker.config.schema_runtime import AdminPoolConfig, JobPoolConfig, PoolConfig, QueryPoolConfig
from broker.config.schema_server import DeadlineConfig, DeadlinesConfig, ServerConfig
from broker.config.settings import (
    AnswerLimits,
    DatabaseSettings,
    DeadlineLimits,
    Deadlines,
    JobSettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
    TlsSettings,
)
from broker.config.shape import Removed
from broker.domain.model import Model
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.conditions import nearest

_METHODS = {
    "dashboard": ("Dashboard",),
    "explore": ("Explore",),
    "explain": ("Explain",),
    "submit_job": ("SubmitJob",),
    "watch_job": ("WatchJob", "WatchState"),
    "read_job_result": ("ReadJobResult",),
    "wait_operation": ("WaitOperation",),
    "verify_rollup": ("VerifyRollup",),
}
# Connections and workers per processor, and the least of each. The database usually has processors of its own, and
# dashboards are short, so they get more connections than processors; calculations get about one worker per processor.
# A job that runs reads nearly all the time, so each has a connection.
_CONNECTIONS = {
    PoolName.DASHBOARD: (4, 8),
    PoolName.EXPLORATION: (2, 4),
    PoolName.ADMIN: (0, 3),
}
_WORKERS = {PoolName.DASHBOARD: (1, 1), PoolName.EXPLORATION: (0.5, 1)}
_BESIDE_SEATS = {PoolName.ADMIN: 1}
"""Connections that are used without a seat: health checks must not wait behind estimates."""


def build_settings(
    config: Config, model: Model, removed: Removed, folder: FilePath, machine: Machine, report: Report
) -> Settings:
    """The settings. ``folder`` is what relative paths are relative to."""
    database, jobs, telemetry = config.database, config.jobs, config.telemetry
    _addresses(config, report)
    pools = {
        name: _pool(name, getattr(config.pools, name), config, removed, machine, report) for name in PoolName
    }
    slots = jobs.slots or pools[PoolName.JOB].in_flight
    if slots > pools[PoolName.JOB].connections:
        text = f"{slots} jobs run at once in a worker, on {pools[PoolName.JOB].connections} connections; some wait"
        report(("pools", "job", "connections"), text, Severity.WARNING)
    return Settings(
        database=DatabaseSettings(**dict(database)),
        server=_server(config.server, folder, report),
        pools=pools,
        auth=build_auth(config, model, removed, is_loopback(config.server.host), report),
        tenants=frozenset(config.tenants),
        jobs=JobSettings(
            **{
                **dict(jobs),
                "dsn": jobs.dsn or database.dsn,
                "result_dir": folder / jobs.result_dir,
                "slots": slots,
            }
        ),
        telemetry=TelemetrySettings(**dict(telemetry)),
    )


def _addresses(config: Config, report: Report) -> None:
    """Addresses are never shown: they may hold passwords."""
    given: dict[Path, str] = {("database", "dsn"): config.database.dsn, ("jobs", "dsn"): config.jobs.dsn}
    given |= {("database", "replicas", name): dsn for name, dsn in config.database.replicas.items()}
    for path, dsn in given.items():
        if dsn and not dsn.startswith(("postgresql://", "postgres://")):
            report(path, "must be an address such as postgresql://user:password@host:5432/database")


def is_loopback(host: str) -> bool:
    """Whether only programs of the same machine reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _server(given: ServerConfig, folder: FilePath, report: Report) -> ServerSettings:
    local = is_loopback(given.host)
    if not local and given.tls is None:
        hint = "traffic is not encrypted; set `server.tls` unless a mesh or a proxy does it"
        report(("server", "host"), hint, Severity.HINT)
    if given.dashboard.max_bytes > given.max_send_bytes:
        report(
            ("server", "dashboard", "max_bytes"),
            "is more than `server.max_send_bytes`; no client could receive it",
        )
    if given.batch_bytes > given.max_send_bytes:
        report(("server", "batch_bytes"), "is more than `server.max_send_bytes`; no client could receive it")
    notice = given.drain.notice
    return ServerSettings(
        host=given.host,
        port=given.port,
        tls=TlsSettings(
            folder / given.tls.certificate,
            folder / given.tls.key,
            folder / given.tls.client_ca if given.tls.client_ca else None,
        )
        if given.tls is not None
        else None,
        deadlines=_deadlines(given.deadlines, report),
        max_receive_bytes=given.max_receive_bytes,
        max_send_bytes=given.max_send_bytes,
        max_panels=given.max_panels,
        dashboard=AnswerLimits(**dict(given.dashboard)),
        explore=AnswerLimits(**dict(given.explore)),
        batch_bytes=given.batch_bytes,
        sql_enabled=given.sql.enabled,
        sql_functions=frozenset(given.sql.functions),
        reflection=given.reflection,
        drain_notice=notice if notice is not None else 0.0 if local else 5.0,
        drain_grace=given.drain.grace,
    )


def _deadlines(given: DeadlinesConfig, report: Report) -> Deadlines:
    def limits(name: str) -> DeadlineLimits:
        section: DeadlineConfig = getattr(given, name)
        if section.default > section.cap:
            at = ("server", "deadlines", name, "default")
            report(at, f"{section.default:g} s is more than the cap of {section.cap:g} s")
        if section.cap <= 0 or section.default <= 0:
            report(("server", "deadlines", name), "leaves no time at all; give more than 0")
        return DeadlineLimits(section.default, section.cap)

    by_name = {name: limits(name) for name in (*_METHODS, "other")}
    methods = {method: by_name[name] for name, names in _METHODS.items() for method in names}
    return Deadlines(methods, by_name["other"])


def _pool(
    name: PoolName, given: PoolConfig, config: Config, removed: Removed, machine: Machine, report: Report
) -> PoolLimits:
    replicas = config.database.replicas
    missing = given.replica if given.replica not in replicas else ""
    if missing and not removed.may_hold(("database", "replicas", missing)):
        hint = nearest(missing, list(replicas)) or "; declare it in `database.replicas`"
        report(("pools", name, "replica"), f"there is no replica {missing!r}{hint}")
    useful = given.in_flight + _BESIDE_SEATS.get(name, 0)
    if given.connections is not None and given.connections > useful:
        report(
            ("pools", name, "connections"),
            f"is more than the {useful} that are used at once; the rest stays unused",
            Severity.WARNING,
        )
    return pool_limits(name, given, machine, replicas.get(given.replica, ""))


def pool_limits(name: PoolName, given: PoolConfig, machine: Machine, replica_dsn: str = "") -> PoolLimits:
    """The limits of a pool, what is unset from the machine; a pool that does not calculate has no workers."""
    useful = given.in_flight + _BESIDE_SEATS.get(name, 0)
    own = given.workers if isinstance(given, QueryPoolConfig) else 0
    return PoolLimits(
        in_flight=given.in_flight,
        queue=given.queue if isinstance(given, AdminPoolConfig) else 0,
        connections=given.connections
        or (min(useful, _share(_CONNECTIONS[name], machine)) if name in _CONNECTIONS else useful),
        workers=min(given.in_flight, _share(_WORKERS[name], machine)) if own is None else own,
        wait_fraction=given.wait_fraction if isinstance(given, AdminPoolConfig) else 0.0,
        worker_memory=given.worker_memory if isinstance(given, QueryPoolConfig | JobPoolConfig) else 0,
        replica_dsn=replica_dsn,
    )


def _share(rule: tuple[float, int], machine: Machine) -> int:
    per_processor, least = rule
    return max(least, round(per_processor * machine.processors))

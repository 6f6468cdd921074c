"""Turns the schema into settings: what is unset is derived, names are resolved, rules across sections are checked."""

from __future__ import annotations

from pathlib import Path as FilePath
from urllib.parse import urlsplit

from broker.config.access import build_auth
from broker.config.address import is_loopback
from broker.config.document import Path
from broker.config.findings import Severity
from broker.config.machine import Machine
from broker.config.pools import build_pools
from broker.config.report import Report
from broker.config.schema import Config
from broker.config.schema_access import TenantLimitsConfig
from broker.config.schema_server import DeadlineConfig, DeadlinesConfig, ServerConfig
from broker.config.settings import (
    AnswerLimits,
    CacheSettings,
    ClusterSettings,
    DatabaseSettings,
    DeadlineLimits,
    Deadlines,
    FleetSettings,
    JobSettings,
    RollupSettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
    TlsSettings,
)
from broker.config.shape import Removed
from broker.domain.model import Model
from broker.domain.pool import PoolName, TenantLimits
from broker.policy.class_rules import ClassLimits

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
_TENANT_LIMITS = set(TenantLimitsConfig.model_fields)


def build_settings(
    config: Config, model: Model, removed: Removed, folder: FilePath, machine: Machine, report: Report
) -> Settings:
    """The settings. ``folder`` is what relative paths are relative to."""
    database, jobs, telemetry = config.database, config.jobs, config.telemetry
    _addresses(config, removed, report)
    pools, limits = build_pools(config, removed, machine, report)
    slots = jobs.slots or pools[PoolName.JOB].in_flight
    if slots > pools[PoolName.JOB].connections:
        text = f"{slots} jobs run at once in a worker, on {pools[PoolName.JOB].connections} connections; some wait"
        report(("pools", "job", "connections"), text, Severity.WARNING)
    return Settings(
        database=DatabaseSettings(
            dsn=database.dsn,
            replicas={name: replica.dsn for name, replica in database.replicas.items()},
            limits=limits,
            application_name=database.application_name,
            connect_timeout=database.connect_timeout,
            idle_connection=database.idle_connection,
            idle_transaction=database.idle_transaction,
            prepared_statements=database.prepared_statements,
        ),
        server=_server(config.server, folder, report),
        pools=pools,
        auth=build_auth(config, model, removed, is_loopback(config.server.host), report),
        tenants={name: _tenant(config.tenant_limits, own) for name, own in config.tenants.items()},
        default_tenant=_tenant(config.tenant_limits, TenantLimitsConfig()),
        jobs=JobSettings(
            **{
                **dict(jobs),
                "dsn": jobs.dsn or database.dsn,
                "result_dir": folder / jobs.result_dir,
                "slots": slots,
            }
        ),
        rollups=RollupSettings(
            mirror_dir=folder / config.rollups.mirror_dir,
            mirror_bytes=config.rollups.mirror_size,
            refresh=config.rollups.refresh,
            verify_share=config.rollups.verify_share,
            keep=config.rollups.keep,
            query_log=folder / config.rollups.query_log if config.rollups.query_log else None,
        ),
        fleet=FleetSettings(**dict(config.fleet)),
        telemetry=TelemetrySettings(**dict(telemetry)),
        cache=_cache(config, removed, report),
        cluster=ClusterSettings(
            config.cluster.address, frozenset(map(PoolName, config.cluster.pools)), config.cluster.smallest
        ),
    )


def _is_server(address: str) -> bool:
    """Whether it is an address of a Redis or Valkey that its client can read."""
    try:
        parts = urlsplit(address)
        readable = parts.port is None or parts.port > 0
    except ValueError:  # its text may hold the password
        return False
    if parts.scheme == "unix":
        return readable and bool(parts.path)
    database = parts.path.strip("/")
    return readable and parts.scheme in {"redis", "rediss"} and (database.isdigit() or not database)


def _cache(config: Config, removed: Removed, report: Report) -> CacheSettings:
    given = config.cache
    if given.shared and not _is_server(given.shared) and not removed.within(("cache", "shared")):
        report(("cache", "shared"), "must be an address such as redis://:password@host:6379/0")
    ages: dict[Path, tuple[float, float]] = {("cache",): (given.soft_age, given.hard_age)}
    for name, dataset in config.datasets.items():
        own = dataset.cache
        soft = given.soft_age if own.soft_age is None else own.soft_age
        hard = given.hard_age if own.hard_age is None else own.hard_age
        if own != type(own)():
            ages["datasets", name, "cache"] = (soft, hard)
    for path, (soft, hard) in ages.items():
        if soft > hard:
            text = f"{soft:g} s is more than the hard age of {hard:g} s; answers past that are not given out at all"
            report((*path, "soft_age"), text)
    if 0 < given.memory < given.max_entry:
        text = f"{given.max_entry} bytes are more than the {given.memory} of `cache.memory`; lower it, or raise that"
        report(("cache", "max_entry"), text)
    return CacheSettings(
        **{**dict(given), "prefix": given.prefix or config.fleet.name, "prefix_given": bool(given.prefix)}
    )


def _addresses(config: Config, removed: Removed, report: Report) -> None:
    """Addresses are never shown: they may hold passwords."""
    given: dict[Path, str] = {("database", "dsn"): config.database.dsn, ("jobs", "dsn"): config.jobs.dsn}
    given |= {("database", "replicas", name, "dsn"): r.dsn for name, r in config.database.replicas.items()}
    for path, dsn in given.items():
        known = dsn.startswith(("postgresql://", "postgres://"))
        if dsn and not known and not removed.within(path):
            report(path, "must be an address such as postgresql://user:password@host:5432/database")


def _tenant(shared: TenantLimitsConfig, own: TenantLimitsConfig) -> TenantLimits:
    """What is set for the tenant, then for all of them; what is set nowhere has no bound."""
    given = shared.model_dump(include=_TENANT_LIMITS) | own.model_dump(
        include=_TENANT_LIMITS, exclude_none=True
    )
    return TenantLimits(**{key: value for key, value in given.items() if value is not None})


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
        classes=ClassLimits(given.classes.dashboard, given.classes.exploration, given.classes.offer_job),
        sql_functions=frozenset(given.sql.functions),
        reflection=given.reflection,
        drain_notice=notice if notice is not None else 0.0 if local else 5.0,
        drain_grace=given.drain.grace,
        memory_limit=given.memory_limit,
        lag_limit=given.lag_limit,
        stream_stall=given.stream_stall,
        decision_log=folder / given.decision_log if given.decision_log else None,
        decision_log_bytes=given.decision_log_bytes,
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

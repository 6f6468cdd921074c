"""Settings as the parts want them."""

from __future__ import annotations

from broker.adapters.auth_keys import ApiKey, KeyAuthenticator
from broker.adapters.pg_connection import Settings as ConnectionSettings
from broker.config.settings import AuthSettings, DatabaseSettings, ServerSettings, TelemetrySettings
from broker.telemetry.options import LogFormat, TelemetryOptions
from broker.transport.options import DEFAULT_LIMITS, ServerOptions, TimeLimits, Tls


def telemetry_options(
    settings: TelemetrySettings, instance_id: str, version: str, index: int | None = None
) -> TelemetryOptions:
    """Where this process reports to."""
    return TelemetryOptions(
        service_name=settings.service_name,
        version=version,
        instance_id=instance_id,
        otlp_endpoint=settings.otlp_endpoint,
        sampling_ratio=settings.sampling_ratio,
        prometheus_host=settings.prometheus_host,
        prometheus_port=settings.prometheus_port,
        log_level=settings.log_level.upper(),
        log_format=LogFormat(settings.log_format),
        process=index,
    )


def server_options(settings: ServerSettings, *, shared: bool = False) -> ServerOptions:
    """How the server listens, on a port that it may share; certificates are read here."""
    limits = {
        method: TimeLimits(settings.deadlines.of(method).default, settings.deadlines.of(method).cap)
        for method in DEFAULT_LIMITS
    }
    other = settings.deadlines.other
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return ServerOptions(
        address=f"{host}:{settings.port}",
        tls=_tls(settings),
        reflection=settings.reflection,
        reuse_port=shared,
        max_receive_bytes=settings.max_receive_bytes,
        max_send_bytes=settings.max_send_bytes,
        limits=limits,
        other_limits=TimeLimits(other.default, other.cap),
        stall_limit=settings.stream_stall,
        drain_notice=settings.drain_notice,
        drain_grace=settings.drain_grace,
    )


def _tls(settings: ServerSettings) -> Tls | None:
    files = settings.tls
    if files is None:
        return None
    authority = files.client_ca.read_bytes() if files.client_ca is not None else b""
    return Tls(files.certificate.read_bytes(), files.key.read_bytes(), authority)


def authenticator(settings: AuthSettings) -> KeyAuthenticator:
    """Who may call."""
    return KeyAuthenticator((ApiKey(k.principal, k.hashes) for k in settings.api_keys), settings.anonymous)


def connection_settings(settings: DatabaseSettings) -> ConnectionSettings:
    """How connections to the analytical database are made."""
    return ConnectionSettings(
        application_name=settings.application_name,
        connect_timeout=settings.connect_timeout,
        idle_in_transaction=settings.idle_transaction,
        idle=settings.idle_connection,
        statements=settings.prepared_statements,
    )

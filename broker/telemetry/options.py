"""What telemetry needs to know, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class LogFormat(StrEnum):
    """How log lines look: AUTO is TEXT on a terminal and JSON anywhere else."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class TelemetryOptions:
    """Where telemetry goes.

    ``otlp_endpoint`` is the gRPC address of a collector (``http://host:4317``; ``https`` for TLS), empty for none, and
    ``otlp_headers`` go with every export. ``sampling_ratio`` is the part of new traces that is kept; a caller's
    decision is followed. ``prometheus_port`` 0 serves no metrics. Intervals and timeouts are in seconds.
    ``process`` tells equal processes of one program apart, counted from 0; None where there is one.
    """

    service_name: str = "querybroker"
    version: str = ""
    instance_id: str = ""
    otlp_endpoint: str = ""
    otlp_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # may hold credentials
    otlp_timeout: float = 10.0
    sampling_ratio: float = 1.0
    span_interval: float = 5.0
    metric_interval: float = 30.0
    prometheus_host: str = "127.0.0.1"
    prometheus_port: int = 0
    log_format: LogFormat = LogFormat.AUTO
    log_level: str = "INFO"
    process: int | None = None

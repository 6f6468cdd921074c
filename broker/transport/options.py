"""What the server is told: address, sizes, times. The composition root fills these in from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds that a call may take: ``default`` when it brings no deadline, ``cap`` at most."""

    default: float
    cap: float


DEFAULT_LIMITS: Mapping[str, TimeLimits] = {
    "Dashboard": TimeLimits(10, 60),
    "Explore": TimeLimits(30, 600),
    "Explain": TimeLimits(5, 30),
    "SubmitJob": TimeLimits(10, 60),
    "WatchJob": TimeLimits(3_600, 86_400),
    "ReadJobResult": TimeLimits(600, 86_400),
    "WatchState": TimeLimits(3_600, 86_400),
    "WaitOperation": TimeLimits(60, 600),
    "VerifyRollup": TimeLimits(60, 600),
}
OTHER_LIMITS = TimeLimits(10, 60)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts; with ``client_ca`` clients must present a certificate that it signed."""

    certificate: bytes
    key: bytes
    client_ca: bytes = b""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the server listens.

    ``address`` is ``host:port`` (port 0 takes a free one) or ``unix:path``. ``limits`` are by method name. Sizes are in
    bytes, times in seconds. ``assumed_receive_bytes`` is the largest response that a caller is taken to receive when it
    says nothing: what gRPC's libraries allow unless told otherwise. ``reuse_port`` lets several processes share the
    port, for the deliberate multi-process mode only: with it a second server binds silently. ``connection_age`` spreads
    connections over replicas (the library adds 10 % of jitter); streams that outlive it have ``connection_grace``.
    ``max_calls`` is a backstop far above every admission limit, for it refuses without details. ``stall_limit`` is how
    long the reader of a stream that holds a seat may take nothing of it; 0 lets it stand as long as its deadline.
    """

    address: str = "127.0.0.1:50051"
    tls: Tls | None = None
    reflection: bool = True
    reuse_port: bool = False
    max_receive_bytes: int = 4 * MIB
    max_send_bytes: int = 32 * MIB
    assumed_receive_bytes: int = 4 * MIB
    limits: Mapping[str, TimeLimits] = field(default_factory=lambda: DEFAULT_LIMITS)
    other_limits: TimeLimits = OTHER_LIMITS
    max_streams: int = 1_000
    max_calls: int = 20_000
    keepalive: float = 30.0
    keepalive_timeout: float = 10.0
    min_ping_interval: float = 10.0
    connection_age: float = 300.0
    connection_grace: float = 120.0
    stall_limit: float = 10.0
    drain_notice: float = 5.0
    drain_grace: float = 30.0
    check_interval: float = 2.0
    check_timeout: float = 2.0

    def channel_options(self) -> list[tuple[str, int]]:
        """The options as gRPC's channel arguments."""
        return [
            ("grpc.so_reuseport", int(self.reuse_port)),
            ("grpc.max_receive_message_length", self.max_receive_bytes),
            ("grpc.max_send_message_length", -1),  # checked before sending, with an error that says so
            ("grpc.max_concurrent_streams", self.max_streams),
            # Of calls that wait to be looked at, the library cancels at random from 1,000 on and all from 3,000 on,
            # without a word of why. A broker refuses by itself, and says so.
            ("grpc.server.max_pending_requests", self.max_calls),
            ("grpc.server.max_pending_requests_hard_limit", self.max_calls + 1),
            ("grpc.keepalive_time_ms", _millis(self.keepalive)),
            ("grpc.keepalive_timeout_ms", _millis(self.keepalive_timeout)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", _millis(self.min_ping_interval)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.max_connection_age_ms", _millis(self.connection_age)),
            ("grpc.max_connection_age_grace_ms", _millis(self.connection_grace)),
        ]

    def limits_of(self, method: str) -> TimeLimits:
        """Time limits of ``package.Service/Method``."""
        return self.limits.get(method.rpartition("/")[2], self.other_limits)


def _millis(seconds: float) -> int:
    return round(seconds * 1000)

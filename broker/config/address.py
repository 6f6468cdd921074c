"""What addresses tell: whether they are of this machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import parse_qs, unquote, urlsplit


def is_loopback(host: str) -> bool:
    """Whether only programs of the same machine reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def on_this_machine(dsn: str) -> bool:
    """Whether a database is reached by a socket or by loopback; not so when its address names no host at all."""
    try:
        parts = urlsplit(dsn)
        hosts = [parts.hostname] if parts.hostname else parse_qs(parts.query).get("host", [])
    except ValueError:
        return False
    return bool(hosts) and all(unquote(host).startswith("/") or is_loopback(host) for host in hosts)

"""A port that is kept for the processes that share it."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from broker.runtime.reserve import ReservedPort


def bound(port: int, *options: int, family: int = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    for option in options:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    made.listen()
    return made


def test_only_those_who_share_may_listen_and_they_get_the_connections() -> None:
    with closing(ReservedPort("127.0.0.1", 0)) as reserved:
        for options in ((), (socket.SO_REUSEADDR,)):
            with pytest.raises(OSError, match="in use"):
                bound(reserved.port, *options)
        with (
            closing(bound(reserved.port, socket.SO_REUSEPORT)) as one,
            closing(bound(reserved.port, socket.SO_REUSEPORT)) as two,
        ):
            for server in (one, two):
                server.setblocking(False)
            accepted = 0
            clients = [socket.create_connection(("127.0.0.1", reserved.port)) for _ in range(20)]
            for server in (one, two):
                while True:
                    try:
                        server.accept()[0].close()
                    except BlockingIOError:
                        break
                    accepted += 1
            for client in clients:
                client.close()
            assert accepted == 20


def test_a_port_that_somebody_listens_on_cannot_be_had_even_if_they_would_share() -> None:
    with closing(bound(0, socket.SO_REUSEPORT)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{port} .*another server"):
            ReservedPort("127.0.0.1", port)
    with closing(ReservedPort("127.0.0.1", port)) as reserved:
        assert reserved.port == port


def test_all_addresses_can_be_reserved() -> None:
    with (
        closing(ReservedPort("0.0.0.0", 0)) as reserved,
        closing(bound(reserved.port, socket.SO_REUSEPORT, host="0.0.0.0")),
    ):
        socket.create_connection(("127.0.0.1", reserved.port)).close()

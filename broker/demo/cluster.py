"""Make a cluster and launch a server on it, with what PostgreSQL said in the error when that fails."""

from __future__ import annotations

import hashlib
import shutil
import socket
import time
from typing import TYPE_CHECKING, Final

from broker.demo import processes
from broker.demo.install import Account, EmbeddedPostgresError
from broker.demo.layout import Layout, own_directory
from broker.demo.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

USER: Final = "postgres"
HOST: Final = "127.0.0.1"
_MAJOR_VERSION: Final = "18"
_CHECK_EVERY_S: Final = 0.01
_LOG_LINES_SHOWN: Final = 20
# Below the ranges from which systems pick ports for outgoing connections, so that none of those takes the
# port while the server is stopped for a moment.
_FIRST_PORT: Final = 20000
_PORTS: Final = 12000
_PORTS_TRIED: Final = 100


def ensure_cluster(layout: Layout, programs: Path, account: Account, password: str, *, sync: bool) -> None:
    """Run initdb unless there is a cluster. It appears complete or not at all.

    `sync` false leaves out the flush to disk. Raises `EmbeddedPostgresError`, also for a cluster of another
    major version.
    """
    version = layout.pgdata / "PG_VERSION"
    if version.exists():
        found = version.read_text(encoding="ascii").strip()
        if found != _MAJOR_VERSION:
            raise EmbeddedPostgresError(
                f"{layout.home} was made by PostgreSQL {found}, this is {_MAJOR_VERSION}: "
                "choose another directory, or carry the data over with pg_dump of the old version"
            )
        return
    unfinished = layout.pgdata.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    own_directory(unfinished, account)
    layout.write_password(password, account)
    command = [str(programs / "initdb"), "-D", str(unfinished), "-U", USER]
    command += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={layout.password}"]
    # UTF-8 in byte order: the same on every machine, whatever locales it has.
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += [] if sync else ["--no-sync"]
    with layout.append_log() as log:
        said_before = log.tell()
        initdb = Supervised(command, account, log)
    try:
        initdb.wait()
    finally:
        code = initdb.close()
    if code:
        raise _failure(layout, said_before, f"initdb ended with code {code}")
    unfinished.rename(layout.pgdata)


def launch(
    layout: Layout,
    programs: Path,
    account: Account,
    settings: Mapping[str, str],
    *,
    port: int | None,
    patience_s: float,
) -> tuple[Supervised, int]:
    """Start the server and return it, with its TCP port, when it accepts connections.

    `port` None takes the first free one of a row that follows from the directory. Raises
    `EmbeddedPostgresError` when the server ends, or is not ready after `patience_s` seconds.
    """
    for candidate in _candidates(layout.name) if port is None else (port,):
        parameters = {
            **settings,
            "listen_addresses": HOST,
            "port": str(candidate),
            "unix_socket_directories": str(layout.sockets),
            "cluster_name": layout.name,
        }
        options = [part for name, value in parameters.items() for part in ("-c", f"{name}={value}")]
        processes.forget_lock_files(layout.pgdata, layout.sockets)
        with layout.append_log() as log:
            said_before = log.tell()
            server = Supervised(
                [str(programs / "postgres"), "-D", str(layout.pgdata), *options], account, log
            )
        try:
            if _becomes_ready(server, layout, said_before, patience_s):
                return server, candidate
        except BaseException:
            server.close()
            raise
        server.close()
    wanted = f"TCP port {port}" if port is not None else "every TCP port tried"
    raise EmbeddedPostgresError(
        f"{wanted} on {HOST} is taken by another program: stop that one, or give another port"
    )


def _candidates(name: str) -> Iterator[int]:
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    for port in (_FIRST_PORT + (first + step) % _PORTS for step in range(_PORTS_TRIED)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        yield port


def _becomes_ready(server: Supervised, layout: Layout, said_before: int, patience_s: float) -> bool:
    """Wait until the server is ready: true; until it has ended because its port is taken: false."""
    limit = time.monotonic() + patience_s
    while not processes.accepts_connections(layout.pgdata, server.pid):
        code = server.wait(_CHECK_EVERY_S)
        if code is not None:
            if "Address already in use" in layout.read_log(said_before):
                return False
            raise _failure(layout, said_before, f"PostgreSQL ended with code {code} instead of starting")
        if time.monotonic() > limit:
            raise _failure(layout, said_before, f"PostgreSQL accepts no connections after {patience_s:g} s")
    return True


def _failure(layout: Layout, said_before: int, what: str) -> EmbeddedPostgresError:
    lines = layout.read_log(said_before).splitlines()[-_LOG_LINES_SHOWN:]
    said = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
    return EmbeddedPostgresError(f"{what}; the end of {layout.log}:\n{said}")

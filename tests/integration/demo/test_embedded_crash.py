"""Nothing of an embedded PostgreSQL outlives a crash: of the server, of its owner, of its supervisor."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from broker.demo import processes
from broker.demo.embedded import EmbeddedPostgres
from broker.demo.install import EmbeddedPostgresError
from tests.support.pg import TEST_SETTINGS

OWNER = """
import sys, pathlib
from broker.demo.embedded import EmbeddedPostgres
server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), settings=dict(pair.split("=") for pair in sys.argv[2:]))
server.start()
print(server._server.pid, server.dsn(), flush=True)
sys.stdin.read()
"""
BUSY = "SELECT count(*) FROM generate_series(1, 100000000000)"


def pid_of_nobody() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


class Owner:
    """Another process that owns a running server."""

    def __init__(self, home: Path) -> None:
        settings = [f"{name}={value}" for name, value in TEST_SETTINGS.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(home), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert self.process.stdout is not None
        supervisor, self.dsn = self.process.stdout.readline().split()
        self.supervisor = psutil.Process(int(supervisor))

    def kill9(self) -> None:
        self.process.kill()
        self.process.communicate()


async def commit_a_row(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await connection.close()


async def kept_row(dsn: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT answer FROM kept")
    finally:
        await connection.close()


async def busy_session(dsn: str) -> asyncio.Task[object]:
    """A session that computes and looks at nothing else; returns once the server shows it at work."""
    connection = await asyncpg.connect(dsn)
    pid = connection.get_server_pid()
    task: asyncio.Task[object] = asyncio.create_task(connection.fetchval(BUSY))
    watcher = await asyncpg.connect(dsn)
    at_work = "SELECT state = 'active' AND query = $2 FROM pg_stat_activity WHERE pid = $1"
    while not await watcher.fetchval(at_work, pid, BUSY):  # noqa: ASYNC110 - PostgreSQL tells it only when asked
        await asyncio.sleep(0)
    await watcher.close()
    return task


async def connection_lost(task: asyncio.Task[object]) -> None:
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await task


async def test_after_kill9_the_committed_row_is_there_on_the_same_port(
    own_postgres: EmbeddedPostgres,
) -> None:
    dsn = own_postgres.dsn()
    await commit_a_row(dsn)
    busy = await busy_session(dsn)
    own_postgres.kill9()
    assert not own_postgres.running
    assert processes.members(own_postgres._layout.name) == []
    await connection_lost(busy)
    own_postgres.start()
    assert await kept_row(dsn) == 42


async def test_a_postmaster_killed_by_others_takes_busy_sessions_with_it(
    own_postgres: EmbeddedPostgres,
) -> None:
    dsn = own_postgres.dsn()
    await commit_a_row(dsn)
    busy = await busy_session(dsn)
    os.kill(own_postgres.pid, signal.SIGKILL)
    await connection_lost(busy)
    own_postgres.start()
    assert await kept_row(dsn) == 42


async def test_start_right_after_a_kill_is_not_fooled_by_the_old_lock_file(
    own_postgres: EmbeddedPostgres,
) -> None:
    server = psutil.Process(own_postgres.pid)
    server.kill()
    psutil.wait_procs([server])
    own_postgres.start()
    assert own_postgres.pid != server.pid
    assert own_postgres.running


async def test_an_owner_that_is_killed_takes_its_server_with_it(home: Path) -> None:
    owner = Owner(home)
    await commit_a_row(owner.dsn)
    busy = await busy_session(owner.dsn)
    owner.kill9()
    await asyncio.to_thread(owner.supervisor.wait)
    await connection_lost(busy)
    server = EmbeddedPostgres(home, settings=TEST_SETTINGS)
    assert processes.members(server._layout.name) == []
    with server:
        assert "database system was not properly shut down" not in server.log_path.read_text()
        assert await kept_row(server.dsn()) == 42


async def test_a_server_left_by_a_killed_supervisor_is_ended_by_the_next_start(home: Path) -> None:
    owner = Owner(home)
    await commit_a_row(owner.dsn)
    busy = await busy_session(owner.dsn)
    owner.supervisor.kill()
    owner.kill9()
    server = EmbeddedPostgres(home, settings=TEST_SETTINGS)
    left = processes.members(server._layout.name)
    assert left
    with server:
        await connection_lost(busy)
        assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in left)
        assert await kept_row(server.dsn()) == 42


async def test_sessions_left_without_postmaster_and_supervisor_are_ended_by_the_next_start(
    home: Path,
) -> None:
    owner = Owner(home)
    await commit_a_row(owner.dsn)
    busy = await busy_session(owner.dsn)
    server = EmbeddedPostgres(home, settings=TEST_SETTINGS)
    postmaster = processes.recorded_postmaster(server._layout.pgdata)
    assert postmaster is not None
    owner.supervisor.kill()
    owner.kill9()
    os.kill(postmaster, signal.SIGKILL)
    with server:
        await connection_lost(busy)
        assert await kept_row(server.dsn()) == 42


async def test_a_start_while_the_killed_owners_server_is_still_stopping_succeeds(home: Path) -> None:
    owner = Owner(home)
    await commit_a_row(owner.dsn)
    owner.kill9()
    with EmbeddedPostgres(home, settings=TEST_SETTINGS) as server:
        assert await kept_row(server.dsn()) == 42


@pytest.mark.parametrize("owner_is", ["this very program", "nobody"])
async def test_a_lock_file_of_before_a_reboot_is_overlooked(home: Path, owner_is: str) -> None:
    with EmbeddedPostgres(home, settings=TEST_SETTINGS) as server:
        await commit_a_row(server.dsn())
        lines = (home / "pgdata" / "postmaster.pid").read_text().splitlines()
        lock_file = next((home / "run").glob("*.lock"))
        shutil.copy(lock_file, home / "kept.lock")
    pid = os.getpid() if owner_is == "this very program" else pid_of_nobody()
    (home / "pgdata" / "postmaster.pid").write_text("\n".join([str(pid), *lines[1:]]) + "\n")
    lock_file.write_text("\n".join([str(pid), *(home / "kept.lock").read_text().splitlines()[1:]]) + "\n")
    with EmbeddedPostgres(home, settings=TEST_SETTINGS) as server:
        assert await kept_row(server.dsn()) == 42


async def test_another_postgres_on_the_same_cluster_is_not_taken_for_a_leftover(home: Path) -> None:
    with EmbeddedPostgres(home / "one", settings=TEST_SETTINGS) as other:
        with EmbeddedPostgres(home / "two", settings=TEST_SETTINGS):
            pass
        pidfile = home / "two" / "pgdata" / "postmaster.pid"
        shutil.copy(home / "one" / "pgdata" / "postmaster.pid", pidfile)
        owner = pidfile.parent.stat()
        os.chown(pidfile, owner.st_uid, owner.st_gid)
        with pytest.raises(EmbeddedPostgresError, match="Is another postmaster"):
            EmbeddedPostgres(home / "two", settings=TEST_SETTINGS).start()
        assert pidfile.exists()
        assert other.running

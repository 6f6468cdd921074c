"""The embedded PostgreSQL starts, stops, tells why it does not, and keeps to itself."""

import asyncio
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import asyncpg
import pytest

from broker.demo import processes
from broker.demo.cluster import HOST
from broker.demo.embedded import DEMO_SETTINGS, EmbeddedPostgres
from broker.demo.install import EmbeddedPostgresError
from tests.support.pg import TEST_SETTINGS


async def ask(dsn: str, query: str = "SELECT 1") -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def server_in(home: Path, **settings: str) -> EmbeddedPostgres:
    return EmbeddedPostgres(home, settings={**TEST_SETTINGS, **settings})


async def test_answers_over_tcp_and_over_its_socket(own_postgres: EmbeddedPostgres) -> None:
    assert own_postgres.running
    for dsn in (own_postgres.dsn(), own_postgres.socket_dsn()):
        assert str(await ask(dsn, "SHOW server_version")).startswith("18.")


async def test_names_of_databases_are_quoted_in_addresses(own_postgres: EmbeddedPostgres) -> None:
    name = "a/b c?d"
    await ask(own_postgres.dsn(), f'CREATE DATABASE "{name}"')
    for dsn in (own_postgres.dsn(name), own_postgres.socket_dsn(name)):
        assert await ask(dsn, "SELECT current_database()") == name


async def test_settings_given_are_laid_over_those_of_the_demonstration(home: Path) -> None:
    with server_in(home, work_mem="5MB") as server:
        assert await ask(server.dsn(), "SHOW work_mem") == "5MB"
        assert await ask(server.dsn(), "SHOW jit") == "off"
        assert await ask(server.dsn(), "SHOW timezone") == "UTC"
        assert await ask(server.dsn(), "SHOW max_connections") == DEMO_SETTINGS["max_connections"]


async def test_tcp_clients_need_the_password(own_postgres: EmbeddedPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(own_postgres.dsn(), password="guess")


def test_files_are_closed_to_other_users(own_postgres: EmbeddedPostgres) -> None:
    for name in ("password", "pgdata", "run", "postgres.log"):
        mode = (own_postgres.data_dir / name).stat().st_mode
        assert stat.S_IMODE(mode) & 0o077 == 0, name


async def test_strings_sort_by_their_bytes(own_postgres: EmbeddedPostgres) -> None:
    ordered = "SELECT string_agg(v, '' ORDER BY v) FROM (VALUES ('b'), ('B'), ('é'), ('a'), ('Z')) t(v)"
    assert await ask(own_postgres.dsn(), ordered) == "BZabé"


async def test_stop_ends_every_process_and_the_data_is_there_at_the_next_start(home: Path) -> None:
    first = server_in(home)
    first.start()
    port = first.port
    await ask(first.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()
    assert not first.running
    assert processes.members(first._layout.name) == []
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncpg.connect(first.dsn())
    first.stop()

    with server_in(home) as second:
        assert second.port == port
        assert await ask(second.dsn(), "SELECT answer FROM kept") == 42


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_stop_does_not_wait_for_clients(home: Path, mode: str) -> None:
    server = server_in(home)
    server.start()
    client = await asyncpg.connect(server.dsn())
    server.stop("immediate" if mode == "immediate" else "fast")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await client.execute("SELECT 1")
    client.terminate()


async def test_smart_stop_waits_for_clients(home: Path) -> None:
    server = server_in(home)
    server.start()
    client = await asyncpg.connect(server.dsn())
    stopping = asyncio.create_task(asyncio.to_thread(server.stop, "smart"))
    log = server.log_path
    while "smart shutdown" not in log.read_text():  # noqa: ASYNC110 - PostgreSQL tells this by its log only
        await asyncio.sleep(0.01)
    assert await client.fetchval("SELECT 1") == 1
    assert not stopping.done()
    await client.close()
    await stopping
    assert processes.members(server._layout.name) == []


async def test_restart_keeps_port_and_data(own_postgres: EmbeddedPostgres) -> None:
    dsn, pid = own_postgres.dsn(), own_postgres.pid
    await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    own_postgres.restart()
    assert own_postgres.pid != pid
    assert await ask(dsn, "SELECT answer FROM kept") == 42


def test_start_of_a_running_server_changes_nothing(own_postgres: EmbeddedPostgres) -> None:
    pid = own_postgres.pid
    own_postgres.start()
    assert own_postgres.pid == pid


async def test_of_many_starts_at_once_one_wins_and_the_others_name_its_process(home: Path) -> None:
    count = 4
    servers, together = [server_in(home) for _ in range(count)], Barrier(count)

    def start(server: EmbeddedPostgres) -> str:
        together.wait()
        try:
            server.start()
        except EmbeddedPostgresError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(start, servers))
    try:
        assert outcomes.count("") == 1
        assert all("is in use by process" in outcome for outcome in outcomes if outcome)
        winner = servers[outcomes.index("")]
        assert await ask(winner.dsn()) == 1
    finally:
        for server in servers:
            server.stop()
    with server_in(home) as after:
        assert await ask(after.dsn()) == 1


def test_a_start_that_fails_shows_what_postgres_said_and_gives_the_directory_back(home: Path) -> None:
    server = server_in(home, shared_buffers="plenty")
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers": "plenty"'):
        server.start()
    assert not server.running
    with server_in(home) as next_one:
        assert next_one.running


async def test_a_port_that_is_taken_is_passed_over(home: Path) -> None:
    with server_in(home) as server:
        first_choice = server.port
    with socket.create_server((HOST, first_choice)), server_in(home) as server:
        assert server.port != first_choice
        assert await ask(server.dsn()) == 1


def test_a_port_asked_for_that_is_taken_is_an_error_that_names_it(home: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(EmbeddedPostgresError, match=f"TCP port {port} on {HOST} is taken"):
            EmbeddedPostgres(home, settings=TEST_SETTINGS, port=port).start()


async def test_a_long_path_gets_its_socket_elsewhere_while_the_server_runs(home: Path) -> None:
    with server_in(home / ("long" * 30)) as server:
        sockets = server._layout.sockets
        assert sockets.is_dir()
        assert await ask(server.socket_dsn()) == 1
    assert not sockets.exists()


def test_a_directory_with_other_files_is_refused_and_left_alone(home: Path) -> None:
    (home / "thesis.tex").write_text("dear reader")
    mode = home.stat().st_mode
    with pytest.raises(EmbeddedPostgresError, match="not empty"):
        server_in(home).start()
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]
    assert home.stat().st_mode == mode


def test_a_cluster_of_another_version_is_refused(home: Path) -> None:
    (home / "lock").touch()
    (home / "pgdata").mkdir()
    (home / "pgdata" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 16"):
        server_in(home).start()


def test_an_initdb_that_was_cut_off_is_begun_anew(home: Path) -> None:
    (home / "lock").touch()
    (home / "password").write_text("of the first attempt")
    (home / "pgdata.part").mkdir()
    (home / "pgdata.part" / "PG_VERSION").write_text("18\n")
    with server_in(home) as server:
        assert asyncio.run(ask(server.dsn())) == 1


def test_a_deleted_password_is_explained(own_postgres: EmbeddedPostgres) -> None:
    (own_postgres.data_dir / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="start anew"):
        own_postgres.dsn()


def test_before_the_first_start_there_is_no_address(home: Path) -> None:
    server = server_in(home)
    for attribute in ("port", "pid"):
        with pytest.raises(EmbeddedPostgresError, match=r"call start\(\) first"):
            getattr(server, attribute)

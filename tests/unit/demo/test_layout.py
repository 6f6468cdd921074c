"""The files of an embedded PostgreSQL and who may use them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker.demo.install import Account, EmbeddedPostgresError
from broker.demo.layout import Layout, own_directory

ME = Account(os.geteuid(), os.getegid())
STRANGER = Account(uid=54321, gid=54321)


def test_every_directory_made_on_the_way_can_be_passed(home: Path) -> None:
    before = os.umask(0o077)
    try:
        Layout(home / "a" / "b").make()
    finally:
        os.umask(before)
    assert stat.S_IMODE((home / "a").stat().st_mode) == 0o755


def test_a_directory_has_one_owner_at_a_time_who_is_named(home: Path) -> None:
    layout = Layout(home)
    with (
        layout.owned(),
        pytest.raises(EmbeddedPostgresError, match=f"in use by process {os.getpid()}:"),
        layout.owned(),
    ):
        pass
    with layout.owned():
        pass


def test_an_owner_that_was_killed_owns_nothing(home: Path) -> None:
    script = (
        "import pathlib, sys\nfrom broker.demo.layout import Layout\n"
        "with Layout(pathlib.Path(sys.argv[1])).owned():\n    print('owned', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"owned\n"
        with (
            pytest.raises(EmbeddedPostgresError, match=f"in use by process {owner.pid}:"),
            Layout(home).owned(),
        ):
            pass
        owner.kill()
        owner.wait()
        with Layout(home).owned():
            pass


def test_a_closed_directory_is_named_with_the_way_out(home: Path) -> None:
    (home / "inner").mkdir()
    home.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match=f"may not enter {home}: .*chmod o\\+x {home}"):
        Layout(home / "inner").open_to(STRANGER)


def test_the_name_follows_from_the_directory(home: Path) -> None:
    assert Layout(home).name == Layout(home).name
    assert Layout(home).name != Layout(home / "other").name


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_directory_of_ours_that_somebody_has_replaced_is_refused(home: Path, kind: str) -> None:
    place = home / "run"
    if kind == "file":
        place.touch()
    else:
        (home / "elsewhere").mkdir(mode=0o755)
        place.symlink_to(home / "elsewhere")
    with pytest.raises(EmbeddedPostgresError, match="not a directory of ours"):
        own_directory(place, ME)


def test_a_directory_of_ours_is_closed_to_others_again(home: Path) -> None:
    (home / "run").mkdir(mode=0o777)
    own_directory(home / "run", ME)
    assert stat.S_IMODE((home / "run").stat().st_mode) == 0o700


def test_passwords_are_readable_for_their_account_only(home: Path) -> None:
    layout = Layout(home)
    layout.password.touch(mode=0o666)
    layout.write_password("se/cret", ME)
    assert layout.read_password() == "se/cret"
    assert stat.S_IMODE(layout.password.stat().st_mode) == 0o600


def test_a_log_grows_over_starts_and_is_put_aside_when_it_is_long(home: Path) -> None:
    layout = Layout(home)
    for line in (b"first\n", b"second\n"):
        with layout.append_log() as log:
            log.write(line)
    assert layout.read_log(0) == "first\nsecond\n"
    assert layout.read_log(6) == "second\n"
    with layout.log.open("ab") as log:
        log.truncate(9 << 20)
    with layout.append_log() as log:
        assert log.tell() == 0
    assert (home / "postgres.log.1").stat().st_size == 9 << 20

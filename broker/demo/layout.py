"""The files of one embedded PostgreSQL, and who may touch them.

Everything lies in one directory that belongs to it alone:

    lock          held (flock) by the process that owns the server, with its process id as text
    password      of the database user ``postgres``, for connections over TCP
    pgdata/       the cluster; appears only when it is complete
    postgres.log  what initdb and PostgreSQL print, kept across starts
    programs/     a copy of the programs, only where the installed ones cannot be reached
    run/          the unix socket, open to the owner only
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from broker.demo.install import Account, EmbeddedPostgresError, closed_to

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_SOCKET_PATH = 103  # sun_path without its terminator, of the strictest system (macOS)
_LOG_KEPT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and permissions below `home`, an absolute path without symbolic links."""

    home: Path

    @property
    def lock(self) -> Path:
        """The file whose lock means ownership of everything else."""
        return self.home / "lock"

    @property
    def password(self) -> Path:
        """The file with the password of the database user ``postgres``."""
        return self.home / "password"

    @property
    def pgdata(self) -> Path:
        """The cluster, PostgreSQL's own data directory."""
        return self.home / "pgdata"

    @property
    def log(self) -> Path:
        """What initdb and PostgreSQL print."""
        return self.home / "postgres.log"

    @property
    def programs(self) -> Path:
        """Where copies of the programs go if the installed ones cannot be reached."""
        return self.home / "programs"

    @property
    def name(self) -> str:
        """PostgreSQL's ``cluster_name``: every server process of this directory shows it in its title."""
        return f"embedded-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]}"

    @property
    def sockets(self) -> Path:
        """The directory of the unix socket: below `home`, or a short one where that path would be too long."""
        inside = self.home / "run"
        if len(os.fsencode(inside / ".s.PGSQL.65535")) <= _LONGEST_SOCKET_PATH:
            return inside
        return Path(tempfile.gettempdir()) / self.name

    def make(self) -> None:
        """Make `home`; refuse a directory with contents of somebody else's."""
        for directory in reversed([path for path in (self.home, *self.home.parents) if not path.exists()]):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        contents = set(self.home.iterdir())  # read once: another start may be adding to it
        if contents and self.lock not in contents:
            raise EmbeddedPostgresError(
                f"{self.home} is not empty and was not made by the embedded PostgreSQL: choose another directory"
            )
        # Given to another account, PostgreSQL must be able to pass through; its own directories stay closed.
        self.home.chmod(0o755 if os.geteuid() == 0 else 0o700)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the directory against every other process, and every other object of this process."""
        with self.lock.open("a+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise EmbeddedPostgresError(
                    f"{self.home} is in use by process {file.read().strip() or '(starting)'}: "
                    "stop that one, or choose another directory"
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield
            finally:
                if self.sockets.parent != self.home:
                    shutil.rmtree(self.sockets, ignore_errors=True)

    def open_to(self, account: Account) -> None:
        """Let `account` use `home`, and make the directory of the socket its own."""
        closed = closed_to(self.home, account)
        if closed is not None:
            raise EmbeddedPostgresError(
                f"PostgreSQL runs as user id {account.uid} here, which may not enter {closed}: "
                f"choose a data directory elsewhere (/var/lib, /tmp) or run `chmod o+x {closed}`"
            )
        own_directory(self.sockets, account)

    def cluster_owner(self) -> int | None:
        """Return the user id that owns the cluster, None when there is no cluster."""
        try:
            return self.pgdata.stat().st_uid
        except FileNotFoundError:
            return None

    def write_password(self, password: str, account: Account) -> None:
        """Set the password down for initdb, which runs as `account`, and for `read_password`."""
        self.password.unlink(missing_ok=True)
        self.password.touch(mode=0o600)
        self.password.write_text(f"{password}\n", encoding="utf-8")
        os.chown(self.password, account.uid, account.gid)

    def read_password(self) -> str:
        """Return the password of the database user ``postgres``."""
        try:
            return self.password.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(
                f"{self.password} is missing: call start() first; if the file was deleted, delete {self.home} "
                "and start anew"
            ) from None

    def read_log(self, offset: int) -> str:
        """Return what was logged after byte `offset`."""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode("utf-8", "replace")

    def append_log(self) -> IO[bytes]:
        """Open the log for more; one that has grown too long is put aside first."""
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > _LOG_KEPT_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        file = self.log.open("ab")
        os.fchmod(file.fileno(), 0o600)
        return file


def own_directory(path: Path, account: Account) -> None:
    """Make `path` a directory that only `account` may enter; refuse one that a stranger has put there."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {os.geteuid(), account.uid}:
        raise EmbeddedPostgresError(f"{path} is not a directory of ours: remove it")
    path.chmod(0o700)
    if status.st_uid != account.uid:
        os.chown(path, account.uid, account.gid)

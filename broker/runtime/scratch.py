"""A folder for the temporary files of one process, that the next process sweeps if this one is killed.

Whoever ends in good order removes its temporary files. Whoever is killed leaves them, and nobody else knows that they
are of no more use: the socket of a fork server, what a job of one's own had put aside. So each process puts them in a
folder of its own, and holds a lock on a file in it, which the kernel drops with the process. The next start removes
every folder with such a file that nobody holds. A folder without one was made by somebody else, whatever its name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from multiprocessing.util import Finalize
from pathlib import Path

PREFIX = "querybroker-"
LOCK = ".held-while-in-use"
"""The file that makes a folder one of these, and is locked by the process whose it is."""
VARIABLE = "TMPDIR"
LONGEST = 50
"""Bytes of the name of the folder outside: 53 are for what comes below it, and macOS takes 103 for a socket."""
LAST = -200
"""Priority of the removal among what multiprocessing does when a process ends: its own files go first, at -100."""


def scratch() -> Path:
    """From now on temporary files of this process, and of those that it starts, go to a new folder; it goes with it.

    What is left of others that were killed is removed first. For a main program: it sets what is global. Where the name
    of a socket there would be longer than the system takes, all stays as it is.

    Raises:
        OSError: There is no place for temporary files.
    """
    outside = Path(tempfile.gettempdir())
    sweep(outside)
    if len(os.fsencode(outside)) > LONGEST:
        return outside
    folder = _made(outside)
    tempfile.tempdir = os.environ[VARIABLE] = str(folder)
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=LAST)
    return folder


def sweep(outside: Path) -> list[Path]:
    """Removes the folders whose processes are gone, and returns them; those of other users are left alone."""
    gone: list[Path] = []
    for folder in outside.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is none of these, it is in use, or somebody else sweeps it
            if folder.is_symlink() or (folder / LOCK).lstat().st_uid != os.geteuid():
                continue
            lock = _locked(folder)
            try:
                shutil.rmtree(folder)
                gone.append(folder)
            finally:
                os.close(lock)
    return gone


def _made(outside: Path) -> Path:
    """A new folder, with a lock that is held as long as the process lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=outside))
        with suppress(FileNotFoundError, BlockingIOError):  # it is swept before it is locked
            lock = _locked(folder, os.O_CREAT)
            if (folder / LOCK).exists():
                return folder
            os.close(lock)


def _locked(folder: Path, flags: int = 0) -> int:
    """A lock on the folder's file; raises OSError where somebody has one, or there is no such file."""
    opened = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened

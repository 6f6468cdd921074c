"""A file system without room: told by its name, since it passes when somebody makes room, and only then."""

from __future__ import annotations

from errno import EDQUOT, ENOSPC, errorcode

from broker.domain.errors import BrokerError, ErrorReason

NO_ROOM = frozenset({ENOSPC, EDQUOT})
RETRY_SECONDS = 60.0
"""Least pause before another attempt: people and sweeps make room in minutes, not in the seconds of a first backoff."""


def no_room(error: BaseException) -> BrokerError | None:
    """What to tell of an error of the file system, when it says that a disk or a quota is full; None for any other.

    Where it was is for the log: callers are not told the server's folders.
    """
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        return None
    text = (
        "The result store has no room for the files of the job. It is tried again by itself; free space where the "
        "workers keep results, or raise the quota there. The worker's log names the folder."
    )
    metadata = {"store": "results", "error": errorcode[error.errno]}
    return BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=RETRY_SECONDS, metadata=metadata)

"""Runs a program's coroutine and turns how it ended into an exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Coroutine
from typing import Any

from broker.runtime.loop import run as run_on_uvloop

INTERRUPTED = 130
_LOG = logging.getLogger(__name__)


class StartError(Exception):
    """The program cannot start as it is configured; the text says what to change."""


def run(main: Coroutine[Any, Any, None]) -> int:
    """0 after an orderly end, 1 when starting failed (said in one line), 130 after Ctrl-C before anything ran."""
    try:
        run_on_uvloop(main)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (StartError, OSError) as error:
        _LOG.debug("start failed", exc_info=error)
        sys.stderr.write(f"broker: {error}\n")
        return 1
    return 0

"""Runs a broker or a worker for tests: ``python -m tests.support.serve_main ROLE CONFIG OVERRIDES READY_FD``.

Writes one JSON line to the file descriptor once it is ready: a broker its address and metrics address.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from broker.app.loop import run
from broker.config.loader import load


def main() -> int:
    """Serve or work until SIGTERM."""
    role, config, overrides, ready_fd = (
        sys.argv[1],
        Path(sys.argv[2]),
        json.loads(sys.argv[3]),
        int(sys.argv[4]),
    )
    loaded = load(config, os.environ, overrides)

    def ready(info: object = None) -> None:
        with os.fdopen(ready_fd, "w") as pipe:
            told = {name: getattr(info, name, "") for name in ("address", "metrics_address")}
            pipe.write(json.dumps(told) + "\n")

    if role == "worker":
        from broker.app.work import run_worker

        return run(run_worker(loaded.settings, loaded.model, ready=ready))
    from broker.app.serve import run_server

    return run(run_server(loaded.settings, loaded.model, ready=ready))


if __name__ == "__main__":
    raise SystemExit(main())

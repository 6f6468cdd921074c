"""Runs a broker for tests: ``python -m tests.support.serve_main CONFIG OVERRIDES READY_FD``.

Writes the address and the metrics address as one JSON line to the file descriptor once the server answers.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from broker.app.loop import run
from broker.app.serve import ServerInfo, run_server
from broker.config.loader import load


def main() -> int:
    """Serve until SIGTERM."""
    config, overrides, ready_fd = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    loaded = load(config, os.environ, overrides)

    def ready(info: ServerInfo) -> None:
        with os.fdopen(ready_fd, "w") as pipe:
            pipe.write(json.dumps({"address": info.address, "metrics": info.metrics_address}) + "\n")

    return run(run_server(loaded.settings, loaded.model, ready=ready))


if __name__ == "__main__":
    raise SystemExit(main())

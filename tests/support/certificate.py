"""A certificate for tests over TLS."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path


async def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost, signed by itself, and its key, as PEM files."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    process = await asyncio.create_subprocess_exec(*command, *names, stderr=subprocess.DEVNULL)
    assert await process.wait() == 0
    return certificate, key

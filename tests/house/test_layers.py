"""The layer contracts bite: an import planted in a bare copy of the packages is found by the contract meant for it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [path.parent.name for path in sorted(ROOT.glob("broker/*/__init__.py"))]
MODULES = ["app", "aggregation/kernels", "demo/tour", "telemetry/setup"]


def broken_contracts(folder: Path, module: str, text: str) -> list[str]:
    """Names of the contracts that fail when `module` (a path below broker) holds `text` and all else is empty."""
    files = ["__init__", *(f"{package}/__init__" for package in PACKAGES), *MODULES, module]
    for name in files:
        path = folder / "broker" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if name == module else "")
    linter, config = f"{sys.prefix}/bin/lint-imports", f"{ROOT}/pyproject.toml"
    command = [linter, "--no-cache", "--no-logo", "--config", config]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    assert "Contracts:" in outcome.stdout, outcome.stdout
    return [line.removesuffix(" BROKEN") for line in outcome.stdout.splitlines() if line.endswith(" BROKEN")]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("transport/server", "import grpc.aio\nimport querybroker.v1\nfrom broker.pipeline import recipes"),
        (
            "adapters/store",
            "import asyncpg\nimport sqlglot\nfrom broker import ports, domain, policy, telemetry",
        ),
        ("app", "from broker.telemetry import setup\nfrom broker import adapters, transport"),
        ("cli/demo", "from broker.demo import tour\nimport querybroker"),
    ],
)
def test_layers_allow(tmp_path: Path, module: str, text: str) -> None:
    assert broken_contracts(tmp_path, module, text) == []


@pytest.mark.parametrize(
    ("module", "text", "contract"),
    [
        ("policy/classify", "import asyncio", "neither wait"),
        ("aggregation/kernels", "import asyncio", "neither wait"),
        ("aggregation/kernels", "import broker.ports", "know only domain"),
        ("aggregation/executor", "import grpc", "Worker processes"),
        ("adapters/store", "import broker.runtime", "Adapters know"),
        ("transport/server", "import broker.aggregation", "Transport reaches"),
        ("transport/server", "import broker.adapters", "only lines below"),
        ("runtime/pools", "import broker.pipeline", "only lines below"),
        ("pipeline/stage", "import broker.telemetry.setup", "telemetry SDK"),
        ("app", "import broker.demo", "Only cli"),
        ("runtime/pools", "import grpc", "gRPC is"),
        ("pipeline/stage", "import querybroker.v1", "stubs are"),
        ("jobs/worker", "import asyncpg", "asyncpg and"),
        ("pipeline/stage", "import sqlglot", "sqlglot is"),
        ("newcomer", "", "only lines below"),
    ],
)
def test_layers_refuse(tmp_path: Path, module: str, text: str, contract: str) -> None:
    assert any(contract in name for name in broken_contracts(tmp_path, module, text))

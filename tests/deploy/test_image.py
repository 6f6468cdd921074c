"""The image: what it is built from is enough, what is built is whole, and what it says of itself is true."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from broker.cli.program import COMMANDS
from broker.config.schema import Config
from tests.deploy import dockerfile

ROOT = dockerfile.ROOT
PACKAGES = [
    ("querybroker_server", "broker", "broker"),
    ("querybroker", "querybroker", "clients/python/querybroker"),
]
BROKER_COMMANDS = {name for section in COMMANDS.values() for name in section}


@pytest.fixture(scope="module")
def checkout() -> tuple[str, ...]:
    return dockerfile.checkout()


@pytest.fixture(scope="module")
def wheels(checkout: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of both distributions, built from what the Dockerfile copies and from nothing else."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    dockerfile.copy_context(checkout, source)
    (install,) = [i.words() for i in dockerfile.instructions() if "pip --python" in i.text]
    projects = [word for word in install if word == "." or word.startswith("./")]
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(target), *projects]
    subprocess.run(pip, cwd=source, check=True)
    return {path.name.partition("-")[0]: path for path in target.iterdir()}


@pytest.mark.parametrize(("distribution", "package", "folder"), PACKAGES)
def test_a_wheel_holds_every_file_of_its_package(
    checkout: tuple[str, ...], wheels: dict[str, Path], distribution: str, package: str, folder: str
) -> None:
    with zipfile.ZipFile(wheels[distribution]) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == {
        f"{package}{name.removeprefix(folder)}" for name in checkout if name.startswith(f"{folder}/")
    }
    assert f"{package}/py.typed" in packed


def test_the_data_of_the_server_is_found_in_its_wheel(wheels: dict[str, Path], tmp_path: Path) -> None:
    for path in wheels.values():
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(tmp_path)
    program = (
        "from importlib.resources import files; from broker.adapters.migrate import migrations\n"
        "import broker, querybroker; print(broker.__file__, querybroker.__file__, sep='\\n')\n"
        "assert migrations('jobs'); assert files('broker.demo').joinpath('flights.yaml').is_file()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert all(line.startswith(str(tmp_path)) for line in outcome.stdout.splitlines())  # not the checkout


def test_the_context_holds_what_is_copied_and_nothing_else(checkout: tuple[str, ...]) -> None:
    sources = [source for sources, _ in dockerfile.copied() for source in sources]
    files = list(dockerfile.context(checkout))
    assert [one for one in sources if not any(f"{file}/".startswith(f"{one}/") for file in files)] == []
    assert [file for file in files if not any(f"{file}/".startswith(f"{one}/") for one in sources)] == []


def test_what_runs_is_a_command_of_the_broker() -> None:
    assert dockerfile.command("ENTRYPOINT") == ["broker"]
    assert dockerfile.command("CMD")[0] in BROKER_COMMANDS
    program, command = dockerfile.command("HEALTHCHECK")
    assert program == "broker"
    assert command in BROKER_COMMANDS


def test_labels_and_ports_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dockerfile.pairs("LABEL")
    for label, value in (("version", "version"), ("description", "description"), ("licenses", "license")):
        assert labels[f"org.opencontainers.image.{label}"] == project[value]
    assert labels["org.opencontainers.image.base.name"].endswith(dockerfile.instructions()[0].words()[0])
    ports = {int(port) for one in dockerfile.last_stage("EXPOSE") for port in one.words()}
    metrics = int(dockerfile.pairs("ENV")["QUERYBROKER__TELEMETRY__PROMETHEUS_PORT"])
    assert ports == {Config().server.port, metrics}


def test_it_runs_as_an_account_without_rights() -> None:
    (user,) = dockerfile.last_stage("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.text)  # a number, which Kubernetes can tell from root
    (made,) = [i.text for i in dockerfile.last_stage("RUN") if "useradd" in i.text]
    assert f"--uid {user.text.partition(':')[0]} " in made

"""The compose files: what they start exists, what they name is there, and nothing is open to the network."""

import hashlib
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from broker.app.process import FLUSH_SECONDS
from broker.cli.program import COMMANDS
from broker.config.findings import Severity
from broker.config.loader import Configuration, load
from broker.config.overlay import PREFIX, WELL_KNOWN
from broker.config.schema import Config
from broker.config.walk import walk
from tests.deploy import compose, dockerfile

VARIABLES = {
    "POSTGRES_PASSWORD": "secret",
    "API_KEY_SHA256": hashlib.sha256(b"qb_key").hexdigest(),
}
BROKER_COMMANDS = {name for section in COMMANDS.values() for name in section}
CONFIG = dockerfile.pairs("ENV")["QUERYBROKER_CONFIG"]
OBSERVED = [
    compose.FOLDER / "observability/otel-collector.yaml",
    compose.FOLDER / "observability/prometheus.yaml",
]


@pytest.fixture(
    scope="module", params=[(compose.BASE,), (compose.BASE, compose.OVERLAY)], ids=["base", "observed"]
)
def services(request: pytest.FixtureRequest) -> dict[str, compose.Service]:
    return compose.services(VARIABLES, *request.param)


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    """The example as the broker's container sees it."""
    broker = compose.services(VARIABLES)["broker"]
    file = compose.FOLDER / broker.mounts[CONFIG]
    return load(file, {**dockerfile.pairs("ENV"), **broker.environment})


@pytest.mark.parametrize("missing", VARIABLES)
def test_secrets_are_given_and_have_no_default(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        compose.services({name: value for name, value in VARIABLES.items() if name != missing})


def test_every_process_of_ours_runs_a_command_that_exists(services: Mapping[str, compose.Service]) -> None:
    assert {services[name].command for name in compose.OURS} == {("migrate",), ("serve",), ("worker",)}
    assert {services[name].command[0] for name in compose.OURS} <= BROKER_COMMANDS
    assert {services[name].image for name in compose.OURS} == {"querybroker"}


def test_every_variable_means_something(services: Mapping[str, compose.Service]) -> None:
    read_by_the_example = re.findall(r"\$\{(\w+)", (compose.FOLDER / "example/querybroker.yaml").read_text())
    known = {*WELL_KNOWN, *read_by_the_example, "PGPASSWORD", "QUERYBROKER_CONFIG", "PATH"}
    for name in {
        *dockerfile.pairs("ENV"),
        *(key for one in compose.OURS for key in services[one].environment),
    }:
        key = tuple(name.removeprefix(PREFIX).lower().split("__"))
        assert walk(Config, key) is not None if name.startswith(PREFIX) else name in known, name


def test_every_mounted_file_is_there(services: Mapping[str, compose.Service]) -> None:
    sources = [source for service in services.values() for source in service.mounts.values()]
    assert [s for s in sources if s.startswith(".") and not (compose.FOLDER / s).is_file()] == []
    named = yaml.safe_load(compose.BASE.read_text())["volumes"]
    assert {s for s in sources if not s.startswith(".")} == set(named)


def test_the_worker_writes_where_the_broker_reads(configuration: Configuration) -> None:
    services = compose.services(VARIABLES)
    folder = str(configuration.settings.jobs.result_dir)
    assert services["broker"].mounts[folder] == services["worker"].mounts[folder] == "results"
    assert f" {folder}" in next(i.text for i in dockerfile.last_stage("RUN"))  # made with its owner


def test_ports_are_open_to_this_machine_only(services: Mapping[str, compose.Service]) -> None:
    published = [port.split(":") for service in services.values() for port in service.ports]
    assert published
    assert all(ip_address(address).is_loopback for address, _, _ in published)
    exposed = {port for one in dockerfile.last_stage("EXPOSE") for port in one.words()}
    assert {port.split(":")[2] for port in services["broker"].ports} == exposed


def test_the_order_of_the_start(services: Mapping[str, compose.Service]) -> None:
    assert services["migrate"].needs == {"postgres": "service_healthy"}
    migrated = {"migrate": "service_completed_successfully"}
    assert services["broker"].needs == services["worker"].needs == migrated
    assert "healthcheck" in services["postgres"].raw
    assert "healthcheck" not in services["broker"].raw  # the image's own


def test_draining_is_given_its_time(configuration: Configuration) -> None:
    server = configuration.settings.server
    assert server.drain_notice > 0
    needed = server.drain_notice + server.drain_grace + FLUSH_SECONDS
    broker = compose.services(VARIABLES)["broker"]
    assert compose.seconds(broker.raw["stop_grace_period"]) > needed


def test_the_example_is_a_configuration_without_mistakes(configuration: Configuration) -> None:
    assert [f for f in configuration.findings if f.severity is not Severity.HINT] == []
    assert configuration.settings.auth.anonymous is None
    assert configuration.settings.database.dsn == "postgresql://broker@postgres:5432/shop"


@pytest.mark.parametrize("file", OBSERVED, ids=lambda path: path.stem)
def test_addresses_between_the_containers_are_names_of_services(file: Path) -> None:
    services = compose.services(VARIABLES, compose.BASE, compose.OVERLAY)
    endpoint = services["broker"].environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert (
        endpoint
        == services["worker"].environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
        == "http://otel-collector:4317"
    )
    text = file.read_text()
    names = {*re.findall(r"names: \[([\w-]+)\]", text), *re.findall(r"endpoint: ([a-z][\w-]*):", text)}
    assert names
    assert names <= set(services)


def test_prometheus_reads_the_port_that_the_image_serves() -> None:
    jobs = yaml.safe_load(OBSERVED[1].read_text())["scrape_configs"]
    ports = {entry["port"] for job in jobs for entry in job["dns_sd_configs"]}
    assert ports == {int(dockerfile.pairs("ENV")["QUERYBROKER__TELEMETRY__PROMETHEUS_PORT"])}

"""What docs/deployment.md says of numbers, names and probes is what the code has."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from broker.app import jobs, process, serve, work
from broker.config.loader import load_text
from broker.config.machine import Machine
from broker.config.schema import Config
from broker.config.settings import Settings
from broker.config.walk import walk
from broker.domain.pool import PoolName
from broker.policy.leases import TTL
from broker.runtime.supervisor import FIRST_PAUSE, LONGEST_PAUSE
from broker.transport.health import LIVENESS
from tests.deploy import compose, dockerfile

PAGE = (dockerfile.ROOT / "docs/deployment.md").read_text()
SMALLEST = "datasets: {t: {table: t, measures: {n: count}}}"
HEALTH = {LIVENESS, serve.QUERY_SERVICE, serve.JOB_SERVICE}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose head begins with a word, without the head."""
    table = PAGE.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def settings(processors: int) -> Settings:
    return load_text(SMALLEST, {}, machine=Machine(processors), database_needed=False).settings


@pytest.fixture(scope="module")
def manifest() -> Mapping[str, Any]:
    (text,) = [block for block in blocks("yaml") if "kind: Deployment" in block]
    deployment, service = yaml.safe_load_all(text)
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    pod: Mapping[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def test_the_variables_are_those_of_the_image() -> None:
    image = {name: value for name, value in dockerfile.pairs("ENV").items() if name != "PATH"}
    assert {name: value for name, value, _ in rows("variable")} == image


def test_the_services_of_health_are_those_that_are_served() -> None:
    assert {name for name, *_ in rows("service")} == HEALTH | {"empty"}


@pytest.mark.parametrize("row", rows("processors"), ids=lambda row: row[0])
def test_the_sizes_are_those_that_are_derived(row: list[str]) -> None:
    processors, broker, worker, crew = map(int, row)
    pools = settings(processors).pools
    assert broker == sum(pools[name].connections for name in serve.POOLS)
    assert worker == sum(pools[name].connections for name in work.POOLS)
    assert crew == sum(pools[name].workers for name in serve.POOLS)


def test_the_numbers_in_the_text_are_the_defaults() -> None:
    default = settings(2)
    listening, seats, lease = 1, 1, 1
    ours = jobs.CONNECTIONS + listening + seats
    for text in (
        f"`server.drain.grace` ({default.server.drain_grace:g} s)",
        f"`jobs.lease` ({default.jobs.lease:g} s)",
        f"`jobs.slots` jobs ({default.jobs.slots})",
        f"after {FIRST_PAUSE:g} s and then up to {LONGEST_PAUSE:g} s",
        f"a *lease* of so many seats for {TTL:g} s",
        f"telemetry (at most {process.FLUSH_SECONDS:g} s)",
        f"`pools.*.worker_memory` ({default.pools[PoolName.DASHBOARD].worker_memory >> 30} GiB)",
        f"{ours} connections of each broker and {ours + lease} of each worker",
    ):
        assert text in " ".join(PAGE.split())


def test_the_keys_in_the_text_exist() -> None:
    named = set(re.findall(r"`((?:server|pools|jobs|auth|database|telemetry)\.[\w.*]+)", PAGE))
    assert len(named) > 5
    for key in named:
        path = tuple({"*": "dashboard", "NAME": "someone"}.get(part, part) for part in key.split("."))
        assert walk(Config, path) is not None, key


def test_the_pod_is_probed_by_services_that_exist(manifest: Mapping[str, Any]) -> None:
    (container,) = manifest["containers"]
    probes = {kind: container[f"{kind}Probe"]["grpc"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {Config().server.port}
    assert probes["startup"]["service"] == probes["liveness"]["service"] == LIVENESS
    assert probes["readiness"]["service"] == serve.QUERY_SERVICE
    exposed = {int(port) for one in dockerfile.last_stage("EXPOSE") for port in one.words()}
    assert {port["containerPort"] for port in container["ports"]} == exposed


def test_the_pod_has_time_to_drain_and_places_to_write(manifest: Mapping[str, Any]) -> None:
    # Outside of loopback, as in the image.
    options = {"server.host": dockerfile.pairs("ENV")["QUERYBROKER__SERVER__HOST"]}
    server = load_text(SMALLEST, {}, options, database_needed=False).settings.server
    needed = server.drain_notice + server.drain_grace + process.FLUSH_SECONDS
    assert manifest["terminationGracePeriodSeconds"] > needed
    (container,) = manifest["containers"]
    places = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    folders = dockerfile.pairs("ENV")
    written = ("QUERYBROKER__JOBS__RESULT_DIR", "QUERYBROKER__ROLLUPS__MIRROR_DIR")
    assert places == {*(folders[name] for name in written), "/tmp"}
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in manifest["volumes"]}


def test_the_variables_that_compose_needs_are_explained() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", compose.BASE.read_text()))
    assert needed == set(re.findall(r"^(\w+)=\$\(", "".join(blocks("sh")), re.MULTILINE)) - {"KEY"}

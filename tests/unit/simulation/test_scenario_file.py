import math
from pathlib import Path

import pytest

from broker.domain.pool import LimitMode, PoolName
from broker.domain.principal import Criticality
from broker.policy.admission.values import Signal
from broker.simulation.run import simulate
from broker.simulation.scenario import Expect, Model, Retry, Step, Work
from broker.simulation.scenario_file import ScenarioError, builtin, load, parse

WHOLE = """
name: whole
seconds: 50
warmup: 5
databases:
  - {name: main, model: replicas, nodes: 2, slots: 16, mode: adaptive, pools: [dashboard, job]}
pools:
  dashboard: {share: 3, reserved: 1}
  job:
tenants:
  people-1: {weight: 2}
populations:
  - {name: people, pool: dashboard, rate: 20, tenants: 2, work: {median: 0.1}, criticality: critical_plus,
     retry: polite}
  - {name: exports, pool: job, load: 0.2, work: {median: 2, sigma: 0.3, seats: 2}, timeout: .inf}
stages:
  - {at: 10, load: 3, only: [people]}
steps:
  - {at: 20, database: main, node: 1, speed: 0.5, signal: replica_lost}
expects:
  goodput: [0.1, null]
  people.served: [null, 1]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "file.yaml")
    assert str(caught.value) == "\n".join(f"file.yaml: {problem}" for problem in caught.value.problems)
    return list(caught.value.problems)


def test_a_file_has_every_field_of_a_scenario() -> None:
    scenario = parse(WHOLE, "whole.yaml")
    database, (people, exports) = scenario.databases[0], scenario.populations

    assert (database.model, database.mode, database.nodes) == (Model.REPLICAS, LimitMode.ADAPTIVE, 2)
    assert (people.criticality, people.retry, people.pool) == (
        Criticality.CRITICAL_PLUS,
        Retry.POLITE,
        PoolName.DASHBOARD,
    )
    assert (exports.work, exports.timeout) == (Work(2.0, 0.3, 2), math.inf)
    assert (scenario.pools[PoolName.DASHBOARD].share, scenario.pools[PoolName.JOB].share) == (3.0, 1.0)
    assert scenario.tenants["people-1"].weight == 2.0
    assert scenario.steps == (Step(20.0, "main", node=1, speed=0.5, signal=Signal.REPLICA_LOST),)
    assert scenario.expects == (Expect("goodput", least=0.1), Expect("people.served", most=1.0))


def test_everything_wrong_with_the_shape_is_told_at_once() -> None:
    found = problems(
        "name: 3\nbogus: 1\n"
        "populations: [{name: a, work: {median: fast, size: 3}, criticality: huge, pool: nope, load: 1}]\n"
        "expects: {goodput: 3}\n"
        "pools: {job: 3}\n"
    )

    for place in (
        "bogus",
        "populations.0.work.size",
        "populations.0.criticality",
        "expects.goodput",
        "pools.job",
    ):
        assert sum(problem.startswith(f"{place}: ") for problem in found) == 1, place
    for place in ("name", "populations.0.work.median", "populations.0.pool"):
        assert sum(problem.startswith(f"{place}: ") for problem in found) == 1, place


def test_everything_wrong_across_the_parts_is_told_at_once() -> None:
    found = problems(
        "name: x\nseconds: 10\nwarmup: 10\nbrokers: 0\n"
        "databases:\n"
        "  - {name: a, pools: [job], model: spill}\n"
        "  - {name: b, pools: [job], model: convoy, slots: 0, pressure: -1}\n"
        "populations:\n"
        "  - {name: p, work: {median: 0}, rate: 1, load: 1, tenants: 0, sizes: [], timeout: 0, reading: -1}\n"
        "  - {name: p, work: {median: 1}, tenants_of: q, pool: admin, load: 1}\n"
        "steps: [{at: 1, database: c}, {at: 1, database: a, node: 3, slots: -1}]\n"
        "stages: [{at: 1, load: -1, only: [nobody]}]\n"
    )
    wanted = (
        "warmup: 10", "brokers:", "'p' is there twice", "'job' is served by several", "'job' is not declared",
        "databases.a: queries that spill", "databases.b: a convoy", "databases.b: needs slots", "databases.b: pressure",
        "set either `rate` or `load`", "work needs a median", "at least one tenant", "sizes are above 0",
        "timeout, patience and bias", "period, reading", "no database serves 'admin'",
        "no database serves 'exploration'", "no population 'q'",
        "no database 'c'", "no node 3", "slots and speed", "no population 'nobody'", "a load is not below 0",
    )  # fmt: skip

    for text in wanted:
        assert sum(text in problem for problem in found) == 1, (text, found)
    assert len(found) == len(wanted)


@pytest.mark.parametrize(("text", "said"), [("a: [", "is not YAML"), ("- 1", "has to be a mapping")])
def test_a_text_that_is_no_scenario_at_all(text: str, said: str) -> None:
    (problem,) = problems(text)

    assert problem.startswith(said)


def test_a_name_that_is_no_file_is_answered_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="ordinary, overload"):
        load(str(tmp_path / "missing.yaml"))


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(WHOLE)

    assert load(str(file)).name == "whole"


def test_every_scenario_that_comes_with_the_broker_can_be_run() -> None:
    names = list(builtin())

    assert names == sorted(names)
    for name in names:
        scenario = load(name)
        assert scenario.name == name
        assert scenario.about
        assert scenario.expects


@pytest.mark.parametrize("name", ["ordinary", "dashboards", "leaving"])
def test_figures_that_are_expected_exist(name: str) -> None:
    scenario = load(name)
    figures = simulate(scenario, 1).figures

    assert {each.metric for each in scenario.expects} <= figures.keys()


def test_a_pool_has_its_share_whatever_its_past() -> None:
    scenario = load("slow-past")
    figures = simulate(scenario, 1).figures

    assert all(each.least <= figures[each.metric] <= each.most for each in scenario.expects)

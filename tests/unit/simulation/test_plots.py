"""Plots: one file per scenario with every core in it, the same every time."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from broker.simulation.plots import PlotsError, draw, series
from broker.simulation.result import Result
from broker.simulation.rivals.catalog import RIVALS
from broker.simulation.run import simulate
from broker.simulation.scenario import Population, Scenario, Step, Work

SCENARIO = Scenario(
    "halved",
    (Population("all", Work(0.3), load=2.0),),
    seconds=30.0,
    warmup=5.0,
    about="half of the slots go at 10 s",
    steps=(Step(10.0, slots=16.0),),
)


@pytest.fixture(scope="module")
def results() -> Mapping[str, Result]:
    return {name: simulate(SCENARIO, 1, RIVALS[name]) for name in ("oracle", "fifo", "no_control")}


def test_a_plot_names_every_core_and_figure(results: Mapping[str, Result], tmp_path: Path) -> None:
    path = draw(results, tmp_path / "new" / "folder")

    assert path == tmp_path / "new" / "folder" / "halved.svg"
    texts = {"".join(each.itertext()) for each in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")}
    assert texts >= {
        "oracle", "fifo", "no_control", "limit, seats", "goodput", "mean wait, s", "shed share",
        "halved: half of the slots go at 10 s",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_results_give_the_same_file(
    results: Mapping[str, Result], tmp_path: Path, kind: str
) -> None:
    first, second = draw(results, tmp_path / "a", kind), draw(results, tmp_path / "b", kind)

    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"\x89PNG" if kind == "png" else b"<?xml")


def test_what_is_drawn_is_what_the_figures_say(results: Mapping[str, Result]) -> None:
    result = results["oracle"]
    (seconds, limit), (at, goodput), (_, waits), (_, shed) = series(result)

    assert (seconds[5], limit[5], limit[15]) == (5.0, 32.0, 16.0)
    assert at == [2.5, 7.5, 12.5, 17.5, 22.5, 27.5]
    assert all(0.0 <= share <= 1.0 for share in shed)
    assert sum(goodput[2:]) / 4 == pytest.approx(result.goodput(10.0, 30.0), rel=1e-9)
    assert 0.0 < max(waits) < SCENARIO.populations[0].timeout


def test_a_run_without_load_is_drawn_as_well(tmp_path: Path) -> None:
    nobody = replace(SCENARIO, populations=(Population("all", Work(0.3)),))

    assert draw({"fifo": simulate(nobody, 1, RIVALS["fifo"])}, tmp_path).exists()


def test_without_the_library_it_is_said_how_to_install_it(
    results: Mapping[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(PlotsError, match=r"install querybroker-server\[simulate\]"):
        draw(results, tmp_path)

"""The admission core in the simulator: every gate, median and worst over seeds, with rivals alongside.

Full: 20 seeds of every study, rivals on three seeds; about half an hour of two processors. Quick: shorter scenarios,
one seed or two, and rivals on one where they differ most. Figures depend on the seeds only, but for the speed, which
is in seconds of processor time. A gate holds when its medians do; `worst` tells whether every seed does. With `--kept`
every run is written down as it ends, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from broker.simulation.batch import OWN
from broker.simulation.gates.catalog import STUDIES, Outcome, Task, measure_all, outcomes, rivals_of
from broker.simulation.gates.values import Study
from tests.bench import harness

RIVAL_SEEDS = 3
QUICK_SEEDS = 2
QUICK_RIVALS = {"overload": 0.1, "noisy": 0.05, "spike": 0.05}
"""Studies that have rivals beside them in the quick mode, and how much shorter they are then."""
QUICK_SCALE = {
    "overload": 0.25, "underload": 0.5, "noisy": 0.2, "backlogged": 0.25, "steps": 0.4, "predictions": 0.3,
    "spike": 0.1, "critical": 0.2, "classes": 0.1, "leaving": 0.3, "panels": 0.3, "hashes": 0.05, "speed": 0.01,
    "replicas": 0.15,
}  # fmt: skip
LONG = ("replicas", "overload", "noisy", "backlogged", "predictions", "classes", "spike")
"""Studies that have one seed in the quick mode."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    parser.add_argument("--seeds", type=int, help="how many, in place of 2 or 20")
    parser.add_argument("--only", help="names of studies, with commas between")
    parser.add_argument("--no-rivals", action="store_true", help="the broker's own core only")
    parser.add_argument("--processes", type=int, default=2, help="processes to run on; 2 unless told")
    parser.add_argument(
        "--kept", type=Path, help="file of ended runs of this very code, read first and added to"
    )


def planned(options: harness.Options, studies: Sequence[Study]) -> list[Task]:
    """Every run, the longest ones first."""
    tasks = []
    for study in studies:
        scale = QUICK_SCALE[study.name] if options.quick else 1.0
        quick_seeds = 1 if study.name in LONG else QUICK_SEEDS
        seeds = options.own.seeds or (quick_seeds if options.quick else study.seeds)
        tasks += [Task(study.name, OWN, seed, scale) for seed in range(1, min(seeds, study.seeds) + 1)]
        if options.own.no_rivals or (options.quick and study.name not in QUICK_RIVALS):
            continue
        scale = QUICK_RIVALS[study.name] if options.quick else 1.0
        for rival in rivals_of(study):
            tasks += [
                Task(study.name, rival, seed, scale)
                for seed in range(1, 2 if options.quick else RIVAL_SEEDS + 1)
            ]
    return tasks


def measure(options: harness.Options) -> harness.Report:
    """All studies, and which gates hold."""
    wanted = options.own.only.split(",") if options.own.only else [study.name for study in STUDIES]
    if unknown := set(wanted) - {study.name for study in STUDIES}:
        raise SystemExit(
            f"no study is called {sorted(unknown)}; there are {[study.name for study in STUDIES]}"
        )
    studies = [study for study in STUDIES if study.name in wanted]
    tasks = planned(options, studies)
    found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=len(tasks))
        for task, figures in measured(tasks, options.own.processes, options.own.kept):
            found.setdefault((task.study, task.core), []).append(figures)
            progress.advance(bar)
    own = {study.name: outcomes(study, found[study.name, OWN]) for study in studies}
    rivals = {
        (study.name, rival): outcomes(study, found[study.name, rival])
        for study in studies
        for rival in rivals_of(study)
        if (study.name, rival) in found
    }
    return report(studies, own, rivals)


def measured(
    tasks: Sequence[Task], processes: int, kept: Path | None
) -> Iterator[tuple[Task, Mapping[str, float]]]:
    """The figures of all tasks; of those that a file has, as they were measured then."""
    if kept is None:
        yield from measure_all(tasks, processes)
        return
    known: dict[Task, Mapping[str, float]] = {}
    if kept.exists():
        text = kept.read_text()
        whole = text[: text.rfind("\n") + 1]  # a run that was killed may have written half a line
        kept.write_text(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        known = {Task(**line["task"]): line["figures"] for line in lines}
    yield from ((task, known[task]) for task in tasks if task in known)
    with kept.open("a") as file:
        for task, figures in measure_all([task for task in tasks if task not in known], processes):
            print(json.dumps({"task": asdict(task), "figures": figures}), file=file, flush=True)
            yield task, figures


def report(
    studies: Sequence[Study],
    own: Mapping[str, Sequence[Outcome]],
    rivals: Mapping[tuple[str, str], Sequence[Outcome]],
) -> harness.Report:
    """Metrics are medians by name, the worst of the seeds, and medians of rivals with their name before."""
    sections = [section(study, own[study.name], rivals) for study in studies]
    every = [outcome for study in studies for outcome in own[study.name]]
    gates = gates_of(every)
    sections.append(
        harness.Section(
            "gates", ("gate", "verdict", "figures"), [(gate, *row) for gate, row in gates.items()]
        )
    )
    metrics = {outcome.figure.name: outcome.median for outcome in every}
    metrics |= {f"{outcome.figure.name}_worst": outcome.worst for outcome in every if len(outcome.values) > 1}
    for (_, rival), results in rivals.items():
        metrics |= {f"{rival}_{outcome.figure.name}": outcome.median for outcome in results}
    metrics["gates"] = len(gates)
    metrics["gates_held"] = sum(verdict != SHORT for verdict, _ in gates.values())
    goals = {
        outcome.figure.name: harness.Goal(outcome.figure.relation, outcome.figure.bound)
        for outcome in every
        if outcome.figure.bound is not None
    }
    return harness.Report(metrics, goals, sections)


HOLDS, MEDIAN, SHORT = "holds", "holds, not with every seed", "FALLS SHORT"


def gates_of(every: Sequence[Outcome]) -> dict[str, tuple[str, str]]:
    """Each gate with its verdict and the figures that decided it."""
    by_gate: dict[str, list[Outcome]] = {}
    for outcome in every:
        if outcome.figure.bound is not None:
            by_gate.setdefault(outcome.figure.gate, []).append(outcome)
    rows = {}
    for gate in sorted(by_gate, key=lambda name: int(name[1:])):
        results = by_gate[gate]
        short = [o for o in results if not o.figure.holds(o.median)]
        verdict = SHORT if short else HOLDS if all(o.holds for o in results) else MEDIAN
        named = short or results
        text = ", ".join(
            f"{o.figure.name} {o.median:.4g} ({o.figure.relation} {o.figure.bound:g})" for o in named
        )
        rows[gate] = verdict, text
    return rows


def section(
    study: Study, own: Sequence[Outcome], rivals: Mapping[tuple[str, str], Sequence[Outcome]]
) -> harness.Section:
    """A table of one study: a column for every figure, the broker's rows first."""
    goals = ["" if o.figure.bound is None else f"{o.figure.relation} {o.figure.bound:g}" for o in own]
    marks = ["" if o.figure.bound is None else "holds" if o.figure.holds(o.median) else "SHORT" for o in own]
    rows: list[Sequence[object]] = [
        ("goal", *goals),
        ("broker, median", *(o.median for o in own)),
        ("broker, worst", *(o.worst for o in own)),
        ("", *marks),
    ]
    rows += [
        (rival, *(o.median for o in results))
        for (name, rival), results in rivals.items()
        if name == study.name
    ]
    count = len(own[0].values)
    title = f"{study.name}, {count} seed{'s' if count > 1 else ''}: {study.about}"
    names = [f"{o.figure.gate} {o.figure.name}".replace("_", " ") for o in own]
    return harness.Section(title, ("", *names), rows)


def main() -> None:
    """Run from the command line."""
    harness.run("sim", __doc__, measure, add_arguments=add_arguments)

"""Faults at random moments in everything that answers depend on: what is wrong, not declared, or left over.

Dashboards and explorations are asked for all the time, under all kinds of terms, of tables that are written to all the
time. Which rows an answer holds follows from its sums, so it is compared with what was committed by the instant that it
claims, and the panels of a snapshot with each other. Meanwhile worker processes, sessions, servers and the process that
keeps the rollups are killed or halted, connections cut, delayed and left half open, what is cached is flushed and
poisoned, and callers hang up. In the end everything must be given back, and everything be answered.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter

from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.bench.parts.fault_load import Load
from tests.bench.parts.fault_place import broken

CLASSES = ("wrong", "undeclared", "incomplete_undeclared")
QUICK, FULL = 120, 1_000
PACE = 0.12
GOALS = {name: Goal("<=", 0) for name in (*CLASSES, "leaked", "calm_failures")}


async def measure(options: Options) -> Report:
    """So many faults, and what came of them."""
    seed = options.own.seed if options.own.seed is not None else time.time_ns() % 1_000_000
    number = options.own.faults or (QUICK if options.quick else FULL)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    async with broken(random.Random(seed)) as place:
        left = await place.play(number, PACE)
    load, faults = place.load, place.faults
    for told in (*(f"{fault}: {why}" for fault, why, _ in load.faults), *left, f"calm: {load.calm}"):
        print(told, flush=True)  # whole, unlike in a table
    found = Counter(fault for fault, _, _ in load.faults)
    metrics: dict[str, float] = {
        "faults": faults.count.total(),
        "answers": load.answers,
        **{name: found[name] for name in CLASSES},
        "leaked": len(left),
        "calm_failures": load.calm.total(),
        "cut_short": load.cut_short,
        "written": len(load.writer.ended),
        "seconds": time.monotonic() - began,
        "seed": seed,
    }
    goals = GOALS if options.quick or options.own.faults else {**GOALS, "faults": Goal(">=", FULL)}
    return Report(metrics, goals, _sections(load, faults.count))


def _sections(load: Load, count: Counter[str]) -> list[Section]:
    kinds = [(kind, partial, number) for (kind, partial), number in load.kinds.most_common()]
    return [
        Section("faults", ("fault", "times"), count.most_common()),
        Section("answers", ("kind", "", "number"), kinds),
        Section("no answer", ("reason", "calls"), load.reasons.most_common()),
    ]


def main() -> None:
    """Run it."""

    def own(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=None, help="which faults come; drawn if not given")
        parser.add_argument("--faults", type=int, default=None, help="how many")

    harness.run("faults", __doc__, measure, add_arguments=own)

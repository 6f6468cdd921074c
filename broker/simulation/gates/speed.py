"""The same seed gives the same run, and how fast runs are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from broker.simulation.gates.shapes import QUERY, USERS
from broker.simulation.gates.values import Figure, Run, Study
from broker.simulation.run import simulate
from broker.simulation.scenario import Population, Retry, Scenario, Stage, Work

RATE = 1000.0
HOUR = 3600.0


def _hashes(run: Run) -> Mapping[str, float]:
    """A short spike with retries, over and over: the share of runs with the hash of the first."""
    runs = max(5, round(100 * run.scale))
    scenario = Scenario(
        "again",
        (replace(USERS, load=0.8, retry=Retry.NAIVE),),
        seconds=8.0,
        warmup=0.0,
        stages=(Stage(3, 3.0),),
    )
    hashes = [simulate(scenario, run.seed, run.make, logged=True).log_hash for _ in range(runs)]
    return {"hash_equal": sum(each == hashes[0] for each in hashes) / runs}


def _speed(run: Run) -> Mapping[str, float]:
    """A thousand requests per second, 0.8 times the capacity; the clock is the time of the processor."""
    work = Work(0.8 * 32 / RATE / QUERY.mean * QUERY.median, QUERY.sigma)
    population = Population("users", work, rate=RATE, tenants=10)
    seconds = max(20.0, HOUR * run.scale)
    begin = time.process_time()
    result = simulate(Scenario("hour", (population,), seconds=seconds, warmup=0.0), run.seed, run.make)
    took = time.process_time() - begin
    speed = result.samples.offered[-1] / took
    return {"hours_speed": speed, "hour_s": HOUR * RATE / speed}


HASHES = Study(
    "hashes",
    "runs with one seed: share with the same hash of everything that happened",
    (Figure("hash_equal", "G15", ">=", 1.0),),
    _hashes,
    rivals="none",
    seeds=1,
)
SPEED = Study(
    "speed",
    "requests simulated per second of processor time, and the seconds that an hour of 1,000 a second takes",
    (Figure("hours_speed", "G15", ">=", 60_000.0), Figure("hour_s", "G15", "<=", 60.0)),
    _speed,
    rivals="none",
    seeds=1,
)

"""Plays a decision log again: event by event into a fresh core, or as load for the simulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import Configuration, Entry, Lost, apply
from broker.policy.admission.record import LogError, encode
from broker.policy.admission.values import AdmissionCore, Decision
from broker.simulation.cores import CoreFactory
from broker.simulation.fit import fit
from broker.simulation.logfile import Line, opened
from broker.simulation.result import Result
from broker.simulation.trace import Trace, gather, merged
from broker.simulation.traced import broker_core, play


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event, at that place of the log, that a fresh core decides otherwise; or rejects, for the reason."""

    place: str
    recorded: Entry
    decided: tuple[Decision, ...]
    rejected: str = ""

    def __str__(self) -> str:
        again = self.rejected or encode(Entry(self.recorded.at, self.recorded.event, self.decided)).strip()
        return f"{self.place}\nrecorded  {encode(self.recorded).strip()}\ndecided   {again}"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log played again: events until its end or the first difference, the kinds of decisions, seconds covered.

    ``gap`` is the place before which events are missing from the log, empty for none; what comes later is not compared.
    """

    configuration: Configuration
    events: int
    decisions: Counter[str]
    seconds: float
    difference: Difference | None
    gap: str = ""

    @property
    def exact(self) -> bool:
        """Whether every decision that was compared was the same, bit for bit."""
        return self.difference is None


def run(path: Path, make: Callable[[Configuration], AdmissionCore] = core_of) -> Replayed:
    """Plays every event into a fresh core with the recorded configuration and compares all decisions.

    Raises:
        LogError: the file is no decision log.
        OSError: it cannot be read.
    """
    with opened(path) as (configuration, lines):
        core = make(configuration)
        decisions: Counter[str] = Counter()
        count, begin, end = 0, 0.0, 0.0
        difference, gap = None, ""
        for line in lines:
            entry = line.entry
            if isinstance(entry.event, Lost):
                gap = line.place
                break
            count, end = count + 1, entry.at
            begin = begin if count > 1 else entry.at
            difference = _compare(core, line)
            if difference is not None:
                break
            decisions.update(type(decision).__name__.lower() for decision in entry.decisions)
    return Replayed(configuration, count, decisions, end - begin, difference, gap)


def _compare(core: AdmissionCore, line: Line) -> Difference | None:
    entry = line.entry
    try:
        decided = apply(core, entry.event, entry.at)
    except (KeyError, ValueError) as error:
        return Difference(line.place, entry, (), f"rejected: {error!r}")
    return None if decided == entry.decisions else Difference(line.place, entry, decided)


def load(logs: Path | Sequence[Path]) -> Trace:
    """The load in a log, or in the logs of several processes before the same databases.

    Raises:
        LogError: a file is no decision log, or none holds a request.
        OSError: a file cannot be read.
    """
    traces = []
    for path in [logs] if isinstance(logs, Path) else logs:
        with opened(path) as (configuration, lines):
            traces.append(gather(configuration, (line.entry for line in lines)))
    trace = merged(traces)
    if not trace.arrivals:
        raise LogError("The decision log holds no request. Record while the broker is used.")
    return trace


def again(
    logs: Path | Sequence[Path], *, speed: float = 1.0, seed: int = 0, make: CoreFactory = broker_core
) -> Result:
    """Offers the recorded requests to a core in the simulator, ``speed`` times as fast as they came.

    Other than in :func:`run`, what happens follows from what this core decides: queries run in a model that is fitted
    to the log.

    Raises:
        LogError: the file is no decision log, or holds no request.
        OSError: it cannot be read.
    """
    trace = load(logs)
    return play(trace, fit(trace, seed), speed=speed, seed=seed, make=make)[0]

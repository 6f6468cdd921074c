"""A recorded log is played again: the same decisions from the same events, and the same load for a model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.pool import BackendLimits, PoolLimits, PoolName
from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import (
    Asked,
    Cancelled,
    Configuration,
    Drained,
    Entry,
    Finished,
    Lost,
    Offered,
    RecordedBackend,
)
from broker.policy.admission.record import LogError, encode, encode_header
from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    Admitted,
    Decision,
    Killed,
    Outcome,
    Quantiles,
    RefusalReason,
    Refused,
    Stage,
)
from broker.simulation import replay
from broker.simulation.fit import fit
from broker.simulation.scenario import Database, Population, Predictor, Retry, Scenario, Work
from broker.simulation.trace import gather, merged
from broker.simulation.traced import multiplied, play
from tests.support.recordings import record

POOL = PoolName.EXPLORATION
BUSY = Scenario(
    "busy",
    (
        Population("some", Work(0.3), load=1.2, tenants=3, timeout=2.0, retry=Retry.NAIVE),
        Population("panels", Work(0.1, memory=1 << 20), load=0.3, panels=4, timeout=1.0, patience=2.0),
    ),
    seconds=20.0,
    warmup=0.0,
    databases=(Database(slots=8.0, memory=1 << 26, pressure=1.0),),
)


@pytest.mark.parametrize("seed", range(3))
def test_a_recorded_run_is_decided_again_bit_for_bit(tmp_path: Path, seed: int) -> None:
    record(tmp_path / "log", BUSY, seed)

    replayed = replay.run(tmp_path / "log")

    assert replayed.exact, str(replayed.difference)
    assert {"admitted", "queued", "refused"} <= set(replayed.decisions)
    assert replayed.events > 1000
    assert 19.0 < replayed.seconds < BUSY.ends


def test_the_first_difference_is_named_with_its_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record(log, BUSY, 1)
    lines = log.read_text().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if '"refused"' in line)
    lines[number] = lines[number].replace('"limiting_factor":"', '"limiting_factor":"not the ')
    log.write_text("".join(lines))

    difference = replay.run(log).difference

    assert difference is not None
    assert difference.place == f"log:{number + 1}"
    recorded, decided = str(difference).splitlines()[1:]
    assert recorded.replace("not the ", "").removeprefix("recorded  ") == decided.removeprefix("decided   ")


def test_another_configuration_decides_otherwise(tmp_path: Path) -> None:
    record(tmp_path / "log", BUSY, 1)

    def narrower(configuration: Configuration) -> AdmissionCore:
        [backend] = configuration.backends
        less = replace(backend, limits=replace(backend.limits, seats=4))
        return core_of(replace(configuration, backends=(less,)))

    assert not replay.run(tmp_path / "log", narrower).exact


def written(path: Path, *entries: Entry) -> Path:
    limits = PoolLimits(in_flight=9, queue=9, connections=1, workers=1)
    configuration = Configuration({POOL: limits}, 1, (RecordedBackend("db", (POOL,), BackendLimits(4)),))
    path.write_text(encode_header(configuration) + "".join(map(encode, entries)))
    return path


def test_an_event_that_the_core_rejects_is_a_difference(tmp_path: Path) -> None:
    log = written(tmp_path / "log", Entry(1.0, Finished("nobody", Outcome.SUCCESS, 1.0)))

    difference = replay.run(log).difference

    assert difference is not None
    assert "decided   rejected: KeyError('nobody')" in str(difference)


def test_a_log_is_compared_as_far_as_nothing_is_missing(tmp_path: Path) -> None:
    log = written(
        tmp_path / "log",
        asked("a", 1.0, *admitted("a")),
        Entry(2.0, Lost(7)),
        Entry(3.0, Finished("nobody", Outcome.SUCCESS, 1.0)),
    )

    replayed = replay.run(log)

    assert replayed.exact
    assert (replayed.events, replayed.gap) == (1, "log:3")
    assert len(replay.load(log).arrivals) == 1


def test_a_log_without_requests_is_no_load(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="holds no request"):
        replay.again(written(tmp_path / "log", Entry(1.0, Drained())))


def admitted(name: str) -> tuple[Decision, ...]:
    return (Admitted(name, POOL, 0.0, 0.0, 4),)


def asked(name: str, at: float, *decisions: Decision, **more: object) -> Entry:
    request = AdmissionRequest(name, "t", POOL, at + 5.0, **more)  # type: ignore[arg-type] # a request's own fields
    return Entry(at, Offered(request), decisions)


def test_the_load_of_a_log_is_who_came_when_and_how_it_ended() -> None:
    refused = Refused("", POOL, RefusalReason.TENANT_QUOTA, Stage.ARRIVAL, "tenant_rate", 1.0)
    entries = [
        asked("done", 10.0, *admitted("done")),
        asked("gone", 10.5, *admitted("gone")),
        asked("killed", 11.0, *admitted("killed")),
        asked("refused", 11.5, replace(refused, id="refused")),
        Entry(12.0, Finished("done", Outcome.SUCCESS, 1.5), (Killed("killed", POOL, 0.01, 1.0),)),
        Entry(12.5, Cancelled("gone")),
        Entry(12.5, Cancelled("killed")),
        Entry(13.0, Asked(POOL, "other"), (refused,)),
        Entry(13.0, Asked(POOL, "t")),
        asked("health", 13.5, *admitted("health"), exempt=True),
        asked("cut", 14.0, *admitted("cut")),
        Entry(15.0, Finished("health", Outcome.SUCCESS, 1.5)),
    ]

    arrivals = gather(Configuration({}, 1), entries).arrivals

    assert [each.request.id for each in arrivals] == ["done", "gone", "killed", "refused", "unseen/4", "cut"]
    assert [each.outcome for each in arrivals] == [
        Outcome.SUCCESS, Outcome.DROPPED, Outcome.DROPPED, None, None, Outcome.DROPPED,
    ]  # fmt: skip
    assert [each.seconds for each in arrivals] == [1.5, 2.0, 1.5, 0.0, 0.0, 1.0]
    assert [each.left for each in arrivals] == [math.inf, 12.5, math.inf, math.inf, math.inf, math.inf]
    assert arrivals[4].request.tenant == "other"
    assert arrivals[4].request.deadline_at == 18.0


@pytest.mark.parametrize(("slots", "load"), [(16.0, 0.9), (16.0, 1.5), (24.0, 1.0)])
def test_slots_are_told_from_how_much_slower_queries_ran_than_predicted(
    tmp_path: Path, slots: float, load: float
) -> None:
    """The broker thinks that there are 40 slots."""
    predictor = Predictor(sigma=0.3)
    database = Database(slots=slots, seats=40)
    scenario = Scenario(
        "wide", (Population("all", Work(0.3), load=load, timeout=4.0, predictor=predictor),),
        seconds=40.0, databases=(database,),
    )  # fmt: skip
    record(tmp_path / "log", scenario, 1)

    trace = replay.load(tmp_path / "log")
    [fitted] = fit(trace).databases

    assert fitted.seen
    assert fitted.slots == pytest.approx(slots, rel=0.25)


def test_predictions_that_are_all_wrong_by_the_same_factor_do_not_look_like_a_small_database(
    tmp_path: Path,
) -> None:
    predictor = Predictor(sigma=0.3, bias=0.5)
    scenario = Scenario(
        "biased", (Population("all", Work(0.3), load=0.6, predictor=predictor),), seconds=40.0
    )
    record(tmp_path / "log", scenario, 1)

    [fitted] = fit(replay.load(tmp_path / "log")).databases

    assert not fitted.seen
    assert fitted.slots == 32.0


def test_a_database_that_was_never_full_is_taken_at_its_word_and_work_at_its_duration(tmp_path: Path) -> None:
    record(tmp_path / "log", replace(BUSY, populations=(replace(BUSY.populations[0], load=0.3),)), 1)

    trace = replay.load(tmp_path / "log")
    fitted = fit(trace)

    assert [(each.slots, each.seen) for each in fitted.databases] == [(8.0, False)]
    whole = [i for i, each in enumerate(trace.arrivals) if each.outcome is Outcome.SUCCESS]
    assert len(whole) > 100
    assert [fitted.work[i] for i in whole] == pytest.approx([trace.arrivals[i].seconds for i in whole])


def test_a_load_played_in_the_model_comes_out_as_it_was(tmp_path: Path) -> None:
    scenario = Scenario("one", (Population("all", Work(0.3), load=0.9, tenants=2),), seconds=60.0, warmup=0.0)
    recorded = record(tmp_path / "log", scenario, 1)

    played = replay.again(tmp_path / "log")

    for name in ("goodput", "refused", "latency_p50", "latency_p99", "wait_mean"):
        assert played.figures[name] == pytest.approx(recorded.figures[name], rel=0.05, abs=0.01), name


def test_logs_of_several_processes_are_one_load_by_the_time_of_day() -> None:
    """One process started after the other; their monotonic clocks have nothing in common."""
    early = gather(Configuration({}, 1, monotonic=50.0, unix=1000.0), [asked("a", 60.0), asked("c", 61.0)])
    late = gather(Configuration({}, 2, monotonic=7.0, unix=1002.5), [asked("b", 15.0, *admitted("b"))])

    both = merged([early, late])

    assert [(each.request.id, each.at) for each in both.arrivals] == [
        ("a", 1010.0), ("b", 1010.5), ("c", 1011.0),
    ]  # fmt: skip
    assert [each.request.deadline_at - each.at for each in both.arrivals] == [5.0, 5.0, 5.0]
    assert (both.arrivals[1].started, both.arrivals[0].started) == (1010.5, None)
    assert both.configuration.seed == 1


def test_a_load_played_faster_is_denser(tmp_path: Path) -> None:
    record(tmp_path / "log", replace(BUSY, seconds=30.0), 1)

    once, faster = replay.again(tmp_path / "log"), replay.again(tmp_path / "log", speed=3.0)

    assert faster.scenario.seconds == pytest.approx(once.scenario.seconds / 3)
    assert faster.figures["refused"] > once.figures["refused"]


def test_copies_are_shifted_and_come_as_often_as_asked(tmp_path: Path) -> None:
    record(tmp_path / "log", BUSY, 1)
    trace = replay.load(tmp_path / "log")
    fitted = fit(trace)
    count = len(trace.arrivals)

    once = multiplied(trace, fitted, 1.0, seed=1)
    half = multiplied(trace, fitted, 1.5, seed=1)
    twice = multiplied(trace, fitted, 2.0, seed=1)

    assert [each.at for each in once] == [each.at - trace.begin for each in trace.arrivals]
    assert len(half) == pytest.approx(1.5 * count, rel=0.06)
    assert len(twice) == 2 * count
    assert half == multiplied(trace, fitted, 1.5, seed=1)
    assert {(e.at, e.arrival.request.id) for e in half} <= {(e.at, e.arrival.request.id) for e in twice}
    groups = {each.group for each in twice if each.group}
    assert all(len({e.at for e in twice if e.group == group}) == 1 for group in groups)
    assert len(groups) == 2 * len({each.group for each in once if each.group})


def test_the_same_seed_plays_the_same(tmp_path: Path) -> None:
    record(tmp_path / "log", BUSY, 1)
    trace = replay.load(tmp_path / "log")
    fitted = fit(trace)

    assert (
        play(trace, fitted, load=1.5, seed=2)[0].figures == play(trace, fitted, load=1.5, seed=2)[0].figures
    )


def test_work_that_never_ran_is_drawn_from_that_which_did() -> None:
    known = Quantiles(0.5, 1.0, 2.0)
    entries = [
        asked("ran", 1.0, *admitted("ran"), predicted=known),
        Entry(4.0, Finished("ran", Outcome.SUCCESS, 3.0)),
        asked("cut", 5.0, *admitted("cut"), predicted=replace(known, p50=0.1)),
        Entry(6.0, Cancelled("cut")),
        asked("waited", 7.0, predicted=replace(known, p50=2.0)),
        asked("unknown", 7.0),
    ]
    limits = PoolLimits(in_flight=9, queue=9, connections=1, workers=1)

    assert fit(gather(Configuration({POOL: limits}, 1), entries)).work == (3.0, 1.0, 3.0, 6.0)

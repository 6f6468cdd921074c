import json
import math

import pytest

from tests.bench.harness import Goal, Options, Report, Section, median, percentile, run


def test_percentile_interpolates_between_the_nearest_values() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([10.0, 20.0], 0) == 10.0
    assert percentile([10.0, 20.0], 100) == 20.0
    assert percentile([7.0], 99) == 7.0
    assert percentile(range(101), 99) == 99.0
    assert median([5.0, 1.0, 3.0]) == 3.0


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_percentile_refuses_what_has_no_answer(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, percent)


def test_a_goal_is_met_at_its_bound_and_never_by_nan() -> None:
    assert Goal("<=", 2.0).met(2.0)
    assert not Goal("<=", 2.0).met(2.1)
    assert Goal(">=", 2.0).met(2.0)
    assert not Goal(">=", 2.0).met(1.9)
    assert not Goal(">=", 2.0).met(math.nan)
    assert not Goal("<=", 2.0).met(math.nan)


def test_run_hands_the_options_over_and_ends_with_one_line_of_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[tuple[bool, int]] = []

    def measure(options: Options) -> Report:
        seen.append((options.quick, options.own.callers))
        details = Section("calls", ("caller", "ms"), [("a", 1.25), ("b", 12345.6)])
        return Report(
            {"p99_ms": 3.5, "left": 2},
            goals={"p99_ms": Goal("<=", 4.0), "left": Goal("<=", 0)},
            sections=[details],
        )

    run(
        "sample",
        "What it measures.",
        measure,
        add_arguments=lambda parser: parser.add_argument("--callers", type=int, default=1),
        arguments=["--quick", "--json", "--callers", "8"],
    )
    lines = capsys.readouterr().out.strip().splitlines()
    assert seen == [(True, 8)]
    assert json.loads(lines[-1]) == {"bench": "sample", "metrics": {"p99_ms": 3.5, "left": 2}}
    shown = "\n".join(lines[:-1])
    assert "12,346" in shown
    assert "MISSED" in shown
    assert "met" in shown


def test_run_awaits_a_measurement_that_is_a_coroutine(capsys: pytest.CaptureFixture[str]) -> None:
    async def measure(options: Options) -> Report:
        return Report({"quick": float(options.quick)})

    run("sample", None, measure, arguments=["--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"] == {"quick": 0.0}

"""Every broken configuration of the tables gets all of its errors at once, each at its line, and nothing else."""

from __future__ import annotations

import pytest

from tests.support.broken_configs import Broken, read_broken

SOUND = "datasets: {flights: {table: flights, measures: {flights: count}}}\n"
FLIGHTS = """\
datasets:
  flights:
    table: flights
    joins:
      airlines: {table: airlines, on: flights.carrier = airlines.carrier}
    measures: {flights: count}
"""
ROLLUPS = """\
datasets:
  flights:
    table: flights
    default_time: time_hour
    joins:
      planes: {table: planes, on: planes.tailnum = flights.tailnum}
      legs: {table: legs, on: legs.flight = flights.id, kind: one_to_many}
    dimensions:
      time_hour: timestamp
      day: date
      built: {column: planes.built, type: date}
      carrier: string
      distance: int64
      t: string
      leg: {column: legs.name, type: string}
    measures:
      flights: count
      late: {kind: avg, column: dep_delay, type: int64}
      worst: {kind: max, column: dep_delay, type: int64}
      median: {kind: approx_percentile, column: dep_delay}
      planes: {kind: approx_distinct, column: tailnum, type: string}
      exact: {kind: exact_distinct, column: dest, type: string}
      median_exact: {kind: exact_percentile, column: dep_delay}
      share: {kind: ratio, numerator: flights, denominator: exact}
    rollups:
"""
CASES = [
    *read_broken("form.txt"),
    *read_broken("text.txt", frame=SOUND),
    *read_broken("sections.txt", frame=SOUND),
    *read_broken("datasets.txt", frame="datasets:\n", indent=2),
    *read_broken(
        "sql.txt", frame=f"{FLIGHTS}    dimensions:\n      member:\n        type: string\n", indent=8
    ),
    *read_broken("rollups.txt", frame=ROLLUPS, indent=6),
    *read_broken("policies.txt", frame=f"{FLIGHTS}    row_policies:\n      member:\n", indent=8),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_configuration_is_explained(case: Broken) -> None:
    findings = case.findings()
    assert len(findings) == len(case.expected), "\n".join(map(str, findings))
    for finding, (line, said) in zip(findings, case.expected, strict=True):
        assert said in str(finding)
        assert line in (0, finding.line), f"line {line} expected: {finding}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_secret_is_shown(case: Broken) -> None:
    assert "hunter2" not in "\n".join(map(str, case.findings()))


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)

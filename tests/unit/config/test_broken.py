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
CASES = [
    *read_broken("form.txt"),
    *read_broken("text.txt", frame=SOUND),
    *read_broken("sections.txt", frame=SOUND),
    *read_broken("datasets.txt", frame="datasets:\n", indent=2),
    *read_broken(
        "sql.txt", frame=f"{FLIGHTS}    dimensions:\n      member:\n        type: string\n", indent=8
    ),
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

"""Counts that are added up before they are told."""

from __future__ import annotations

from broker.telemetry.tally import Key, Tally


def test_what_is_new_is_told_once() -> None:
    told: list[tuple[Key, int]] = []
    tally = Tally(lambda key, count: told.append((key, count)))
    for key in ("a", "b", "a"):
        tally.add((key,))
    tally.flush()
    assert told == [(("a",), 2), (("b",), 1)]
    tally.flush()
    tally.add(("a",))
    tally.flush()
    assert told[2:] == [(("a",), 1)]

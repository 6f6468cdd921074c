"""``broker cache`` against a running broker."""

from __future__ import annotations

import re

from tests.support.cli import Demo

QUESTION = ("flights", "-m", "flights", "-b", "carrier", "--format", "json")


def test_answers_are_shown_and_removed(demo: Demo) -> None:
    assert demo.broker("query", *QUESTION).returncode == 0
    shown = demo.broker("cache", "state")
    assert shown.returncode == 0, shown.stderr
    held = re.match(r"memory: in use, (\d+) answers? in [\d.]+ (?:B|KiB|MiB) of 256.0 MiB", shown.stdout)
    assert held is not None, shown.stdout
    assert int(held[1]) >= 1
    assert demo.broker("cache", "invalidate", "planes", "-r", "1990-03").stdout == "0 answers removed.\n"
    removed = demo.broker("cache", "invalidate", "flights")
    assert re.fullmatch(r"[1-9]\d* answers? removed\.\n", removed.stdout), removed.stderr
    assert demo.broker("cache", "invalidate", "--all").stdout == "0 answers removed.\n"


def test_what_to_remove_has_to_be_said(demo: Demo) -> None:
    assert demo.broker("cache", "invalidate").returncode == 2
    assert demo.broker("cache", "invalidate", "flights", "--all").returncode == 2
    unknown = demo.broker("cache", "invalidate", "flihgts")
    assert unknown.returncode == 4
    assert "did you mean 'flights'?" in unknown.stderr
    misspelt = demo.broker("cache", "invalidate", "flights.dayly")
    assert misspelt.returncode == 4
    assert "did you mean 'daily'?" in misspelt.stderr

"""docs/jobs.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf import json_format

from broker.domain.attempts import RETRYABLE
from broker.domain.job import TRANSITIONS, JobState
from querybroker.v1.job_service_pb2 import SubmitJobRequest

PAGE = (Path(__file__).parents[3] / "docs" / "jobs.md").read_text("utf-8")


def test_the_page_has_every_transition_and_no_other() -> None:
    found = re.findall(r"^\| `(\w+)` \|[^|]*\| `(\w+)` \|[^|]*\|$", PAGE, re.MULTILINE)
    told = {(JobState(a), JobState(b)) for a, b in found if a != b}
    assert told == {(a, b) for a, ends in TRANSITIONS.items() for b in ends}


def test_the_picture_shows_the_same_transitions() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): ", PAGE, re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert {(JobState(a), JobState(b)) for a, b in drawn} == {
        (a, b) for a, ends in TRANSITIONS.items() for b in ends
    }


def test_the_page_has_every_state() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| [A-Z]", PAGE, re.MULTILINE)) == {state.value for state in JobState}


def test_the_page_names_the_reasons_that_are_tried_again() -> None:
    section = PAGE.partition("## Trying again")[2].partition("Before\n")[0]
    assert set(re.findall(r"`([A-Z_]+)`", section)) == {reason.value for reason in RETRYABLE}


def test_the_submissions_of_the_page_are_submissions() -> None:
    examples = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        assert json_format.Parse(example, SubmitJobRequest()).spec.WhichOneof("work") is not None

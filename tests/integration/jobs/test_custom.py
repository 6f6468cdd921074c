"""Kinds of an operator's own: the one of the documentation, as it stands there, and what its attempts promise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from broker.app.kinds import custom_kinds, kind_problems
from broker.app.loop import StartError
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobState
from broker.domain.terms import AnswerPolicy
from broker.domain.work import CustomWork, JobAsk
from broker.jobs.children import Children
from broker.jobs.custom import RunningKind
from broker.ports.jobs import Submission
from tests.support.jobs import Jobs, submission
from tests.support.workers import worker

PAGE = Path(__file__).parents[3] / "docs" / "jobs.md"
MORE = '''

from broker.jobs.custom import PassingError


class Trouble:
    """Fails as it is told to."""

    parameters = Upto
    grant = "trouble"

    async def run(self, attempt):
        wanted = attempt.parameters
        if wanted.step == 1:
            raise PermanentError("never")
        if wanted.step == 2 and attempt.job.attempt == 1:
            raise PassingError("later")
        if wanted.step == 3:
            return await attempt.compute("primes:refuse", 7)
        if wanted.step == 4 and not attempt.checkpoint:
            await attempt.save(b"once")
            await attempt.compute("primes:die", None)
        assert wanted.step != 4 or attempt.checkpoint == b"once"


def refuse(argument, say):
    say("refusing", 0.5)
    raise PermanentError(f"no {argument}")


def die(argument, say):
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The kind of the page and one more, loaded as a worker does."""
    code = re.search(r"## A kind of your own.*?```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert code is not None
    (tmp_path / "primes.py").write_text(code[1] + MORE)
    monkeypatch.syspath_prepend(tmp_path)
    return dict(custom_kinds({"primes": "primes:Primes", "trouble": "primes:Trouble"}))


def ask(kind: str, **parameters: object) -> JobAsk:
    return JobAsk(CustomWork(kind, parameters), AnswerPolicy(), "", b"", "", path="spec.custom")


def decode(spec: bytes) -> JobAsk:
    return ask(**json.loads(spec))


def custom(kind: str, **parameters: object) -> Submission:
    spec = json.dumps({"kind": kind, **parameters}).encode()
    return submission(kind=f"custom:{kind}", spec=spec, attempt_timeout=300.0)


async def test_a_kind_of_ones_own(jobs: Jobs, kinds: dict[str, Any], tmp_path: Path) -> None:
    children = Children(1 << 30)
    running = {name: RunningKind(kind, jobs.ports.checkpoints, decode) for name, kind in kinds.items()}

    async def done(state: JobState, wanted: Submission) -> Job:
        job = await jobs.ports.store.submit(wanted)
        return await jobs.reaches(job.id, state)

    async with worker(jobs.ports, running, tmp_path / "results", children=children):
        job = await done(JobState.SUCCEEDED, custom("primes", limit=1000, step=300))
        assert job.result is not None
        (part,) = job.result.parts
        assert (tmp_path / "results" / "parts" / part.key).read_text() == "168\n"
        assert (job.progress.phase, job.progress.fraction) == ("counting", 1.0)
        assert await jobs.ports.checkpoints.load(job) == b"1000 168"
        assert not await jobs.ports.checkpoints.save(job, b"late"), "the attempt is over"

        job = await done(JobState.FAILED, custom("primes", limit=10**9))
        assert job.failure is not None
        assert (job.attempt, "100000000 at most" in job.failure.message) == (1, True)
        for step, told in ((1, "never"), (3, "no 7")):
            job = await done(JobState.FAILED, custom("trouble", limit=1, step=step))
            assert job.failure is not None
            assert (job.attempt, job.failure.message.endswith(told)) == (1, True)

        for step in (2, 4):
            again = await jobs.ports.store.submit(custom("trouble", limit=1, step=step))
            await jobs.until(again.id, lambda job: job.state is JobState.QUEUED and job.attempt == 1)
            await jobs.make_due(again.id)
            job = await jobs.reaches(again.id, JobState.SUCCEEDED)
            assert (job.attempt, job.crash_count) == (2, int(step == 4))
    assert children.count == 0
    children.close()


async def test_what_does_not_fit_is_told_at_once(kinds: dict[str, Any]) -> None:
    primes = kinds["custom:primes"]
    assert primes.parse({"limit": 5.0}).limit == 5
    with pytest.raises(BrokerError) as caught:
        primes.parse({"limit": "many", "step": 1.5, "steps": 3})
    assert caught.value.reason is ErrorReason.INVALID_REQUEST
    path = "spec.custom.parameters"
    assert {v.field for v in caught.value.violations} == {f"{path}.limit", f"{path}.step", f"{path}.steps"}


@pytest.mark.parametrize(
    ("place", "elsewhere"),
    [("nowhere:Kind", True), ("primes:Nothing", True), ("primes:count", False), ("broken:Kind", False)],
)
def test_what_is_no_kind_is_said_at_the_start(
    kinds: dict[str, Any], tmp_path: Path, place: str, elsewhere: bool
) -> None:
    (tmp_path / "broken.py").write_text("class Kind:\n    parameters: int = 1 / 0\n")
    with pytest.raises(StartError, match=r"jobs\.kinds\.mine"):
        custom_kinds({"mine": place})
    ((name, text, missing),) = kind_problems({"mine": place, "primes": "primes:Primes"})
    assert (name, missing) == ("mine", elsewhere)
    assert place in text

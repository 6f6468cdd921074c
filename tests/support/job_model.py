"""A small model of the job layer: what each step makes of jobs and workers, and what must hold after every one.

Workers act on what they believe, which may be long out of date: they are paused, die, lose their lease. The database
accepts a write or not; that is decided by guards, which can be left out by name to see what they are for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

GUARDS = frozenset(
    {"fence", "worker", "state", "lease", "lost", "crash limit", "fence grows", "cancel asked"}
)
SECOND = frozenset({"worker"})
"""Guards that the others make unnecessary, as long as these hold."""
FINAL = frozenset({"succeeded", "failed", "cancelled"})


class Job(NamedTuple):
    """A row. ``most`` attempts are allowed; ``effects`` counts what was published, ``stale`` wrong writes taken."""

    state: str = "queued"
    fence: int = 0
    attempt: int = 0
    crashes: int = 0
    worker: int = -1
    cancel: bool = False
    dead: bool = False
    most: int = 2
    effects: int = 0
    stale: bool = False


class Claim(NamedTuple):
    """What a worker believes that it has; ``valid``, which it cannot know, while nobody else has had the job."""

    job: int
    fence: int
    valid: bool = True


class Worker(NamedTuple):
    """A process and its lease row: in time or not, declared lost or not; the claims that the process believes in."""

    in_time: bool = True
    lost: bool = False
    gone: bool = False
    claims: tuple[Claim, ...] = ()


class World(NamedTuple):
    """Everything."""

    jobs: tuple[Job, ...]
    workers: tuple[Worker, ...]


Step = tuple[str, int, int]
"""What happens, to or by which worker, to which job; -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Model:
    """The rules, with the guards that hold. To bound a search: steps that are left out, claims of a job, restarts."""

    guards: frozenset[str] = GUARDS
    crash_limit: int = 3
    restarts: int = 1
    most_fence: int = 1_000
    without: frozenset[str] = frozenset()

    def start(self, jobs: int, workers: int, most: int = 2) -> World:
        """Jobs that wait, with so many attempts allowed, and workers that live."""
        return World((Job(most=most),) * jobs, (Worker(),) * workers)

    def steps(self, world: World) -> Iterator[Step]:
        """What can happen next; much of it may change nothing."""
        for w, worker in enumerate(world.workers):
            if not worker.gone:
                yield from (("renew" if not worker.in_time else "pause", w, -1), ("crash", w, -1))
                if len(worker.claims) < self.most_fence:
                    yield from (
                        ("claim", w, j) for j, job in enumerate(world.jobs) if job.fence < self.most_fence
                    )
                for j in {claim.job for claim in worker.claims}:
                    yield from ((name, w, j) for name in ("succeed", "fail", "release", "confirm"))
            elif worker.in_time:
                yield ("pause", w, -1)
        dead = sum(worker.gone for worker in world.workers)
        if dead and len(world.workers) - 2 < self.restarts:
            yield ("restart", -1, -1)
        yield ("reap", -1, -1)
        yield from (
            (name, -1, j) for j in range(len(world.jobs)) for name in ("cancel", "requeue", "overdue")
        )

    def take(self, world: World, step: Step) -> World:
        """The world after a step."""
        name, w, j = step
        match name:
            case "claim":
                return self._claim(world, w, j)
            case "succeed" | "fail" | "release" | "confirm":
                return self._write(world, name, w, j)
            case "pause":
                return _worker(world, w, in_time=False)
            case "renew":
                alive = not world.workers[w].lost or "lost" not in self.guards
                return _worker(world, w, in_time=True) if alive else _worker(world, w, gone=True, claims=())
            case "crash":
                return _worker(world, w, gone=True, claims=())
            case "restart":
                return world._replace(workers=(*world.workers, Worker()))
            case "reap":
                return self._reap(world)
            case "cancel" if world.jobs[j].state == "queued":
                return _job(world, j, world.jobs[j]._replace(state="cancelled", cancel=True))
            case "cancel" if world.jobs[j].state == "running":
                return _job(world, j, world.jobs[j]._replace(cancel=True))
            case "overdue" if world.jobs[j].state == "running":
                return _left(_job(world, j, _failed(world.jobs[j])), j)
            case "requeue" if world.jobs[j].dead:
                job = world.jobs[j]
                again = job._replace(
                    state="queued", dead=False, cancel=False, crashes=0, most=job.attempt + 1
                )
                return _job(world, j, again)
        return world

    def _claim(self, world: World, w: int, j: int) -> World:
        job, worker = world.jobs[j], world.workers[w]
        if job.state != "queued" or ("lease" in self.guards and (worker.lost or not worker.in_time)):
            return world
        fence = job.fence + ("fence grows" in self.guards)
        claimed = job._replace(state="running", fence=fence, attempt=job.attempt + 1, worker=w)
        world = _left(_job(world, j, claimed), j)
        return _worker(world, w, claims=(*world.workers[w].claims, Claim(j, fence)))

    def _write(self, world: World, name: str, w: int, j: int) -> World:
        job, worker = world.jobs[j], world.workers[w]
        claim = next(c for c in worker.claims if c.job == j)  # its oldest claim of the job comes to an end
        holds = {
            "fence": job.fence == claim.fence,
            "worker": job.worker == w,
            "state": job.state == "running",
        }
        if name == "confirm":
            if all(holds.values()) and not job.cancel and "cancel asked" in self.guards:
                return world  # refused, and the attempt goes on
            holds["cancel asked"] = job.cancel
        world = _worker(world, w, claims=tuple(c for c in worker.claims if c is not claim))
        if not all(held for guard, held in holds.items() if guard in self.guards):
            return world
        job = job._replace(stale=job.stale or not claim.valid or (name == "confirm" and not job.cancel))
        match name:
            case "succeed":
                job = job._replace(state="succeeded", effects=job.effects + 1)
            case "confirm":
                job = job._replace(state="cancelled")
            case "release":
                job = job._replace(state=_again(job), attempt=job.attempt - 1)
            case _:
                job = _failed(job)
        return _left(_job(world, j, job), j)

    def _reap(self, world: World) -> World:
        for w, worker in enumerate(world.workers):
            world = _worker(world, w, lost=worker.lost or not worker.in_time)
        for j, job in enumerate(world.jobs):
            if job.state == "running" and world.workers[job.worker].lost:
                poison = "crash limit" in self.guards and job.crashes + 1 >= self.crash_limit
                dead = poison or job.attempt >= job.most
                state = "failed" if dead else _again(job)
                world = _left(
                    _job(world, j, job._replace(state=state, dead=dead, crashes=job.crashes + 1)), j
                )
        return world

    def wrong(self, world: World) -> str | None:
        """What does not hold, None when all does."""
        for j, job in enumerate(world.jobs):
            if job.effects > 1 or job.effects != (job.state == "succeeded"):
                return f"published {job.effects} times"
            if job.stale:
                return "a stale write was accepted"
            if job.crashes > self.crash_limit:
                return "a poison pill was not stopped"
            if job.state == "running":
                owner = world.workers[job.worker]
                if owner.lost:
                    return "a job runs under a lost worker"
                knows = Claim(j, job.fence) in owner.claims
                if not (knows or owner.gone or not owner.in_time):
                    return "a job runs and nobody will end it"
        if any(worker.lost and worker.in_time for worker in world.workers):
            return "a lost lease was renewed"
        return None


def _again(job: Job) -> str:
    return "cancelled" if job.cancel else "queued"


def _failed(job: Job) -> Job:
    used_up = job.attempt >= job.most
    return job._replace(state="failed" if used_up else _again(job), dead=used_up)


def _left(world: World, j: int) -> World:
    """Whatever was believed of the job so far is out of date."""
    workers = tuple(
        worker._replace(claims=tuple(c._replace(valid=c.valid and c.job != j) for c in worker.claims))
        if any(c.job == j for c in worker.claims)
        else worker
        for worker in world.workers
    )
    return world._replace(workers=workers)


def _job(world: World, j: int, job: Job) -> World:
    return world._replace(jobs=(*world.jobs[:j], job, *world.jobs[j + 1 :]))


def _worker(world: World, w: int, **changes: object) -> World:
    changed = world.workers[w]._replace(**changes)  # type: ignore[arg-type]  # the caller names fields
    return world._replace(workers=(*world.workers[:w], changed, *world.workers[w + 1 :]))


def _alike(world: World) -> World:
    """A world that differs by the names of its workers and jobs only, the same one for most such worlds."""
    order = sorted(range(len(world.workers)), key=lambda w: world.workers[w])
    place = {-1: -1} | {w: n for n, w in enumerate(order)}
    jobs = [job._replace(worker=place[job.worker]) for job in world.jobs]
    turn = sorted(range(len(jobs)), key=lambda j: jobs[j])
    rank = {j: n for n, j in enumerate(turn)}
    workers = [world.workers[w] for w in order]
    return World(
        tuple(jobs[j] for j in turn),
        tuple(
            worker._replace(claims=tuple(sorted(c._replace(job=rank[c.job]) for c in worker.claims)))
            if worker.claims
            else worker
            for worker in workers
        ),
    )


def search(model: Model, jobs: int, workers: int) -> tuple[int, str | None, list[Step]]:
    """Looks at every world that can come about: how many there are; what is wrong in one, and the steps to it."""
    first = model.start(jobs, workers)
    came: dict[World, tuple[World, Step] | None] = {first: None}
    ahead = deque([first])
    while ahead:
        world = ahead.popleft()
        if (wrong := model.wrong(world)) is not None:
            return len(came), wrong, _path(came, world)
        for step in model.steps(world):
            if step[0] in model.without:
                continue
            after = _alike(model.take(world, step))
            if after not in came:
                came[after] = (world, step)
                ahead.append(after)
    return len(came), None, []


def _path(came: dict[World, tuple[World, Step] | None], world: World) -> list[Step]:
    steps = []
    while (before := came[world]) is not None:
        world, step = before
        steps.append(step)
    return steps[::-1]

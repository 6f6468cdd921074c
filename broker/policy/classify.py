"""What a request will cost, and which class and pool follow.

The call proposes the class and the prediction decides (:mod:`broker.policy.class_rules`). The prediction rests on the
best evidence there is: earlier runs with the same cost fingerprint, beside the planner's estimate if it is known; else
a model over that estimate; else the times of the class; else nothing. Whatever it rests on, it is calibrated by how
such predictions turned out (:mod:`broker.policy.calibration`).

Only runs that nothing slowed down teach how long work takes: from a database that is busy everything looks slow, limits
set by what was learned there would follow it down, and up again never (a ratchet). Of a run that others slowed down the
time that it would have taken alone is known to be shorter; of one that was cut short, to be longer.

The classifier is a pure object: time is an argument and nothing is awaited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from broker.domain.answer import Cost
from broker.domain.estimate import Estimate
from broker.domain.principal import Criticality
from broker.domain.request import Basis, Classification, RequestKind
from broker.policy.admission.values import Quantiles
from broker.policy.calibration import NORMAL, Calibration, Guess
from broker.policy.class_rules import ClassLimits, decide, ends_of, seats_of
from broker.policy.factors import caller_factors, factors
from broker.policy.history import Histories, History
from broker.policy.plan_model import PlanModel
from broker.policy.shape import Shape
from broker.policy.sketch import Sketch

QUIET = 0.6
"""Share of the seats that others may use beside a run that counts as undisturbed."""
NEAR = 4.0
"""A class whose ninetieth percentile is within this factor of its end may hold work that belongs elsewhere."""
SAMPLE_EVERY = 8
"""Of new questions, one in so many is explained although nothing depends on it, so that the model has what to learn."""
CLASS_MEMORY = 512.0
EXPECTED_SPREAD = (0.7, 1.1)
"""Of the logarithm of what sources are expected to take, below and above: within a factor of two, up to three."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A request to be classified: the call, the question's cost fingerprint and shape, the planner's estimate if asked.

    ``time_left`` is what the deadline leaves, in seconds; ``payload`` the size of the request in bytes. ``expected`` is
    what the sources that are to answer should take in seconds, where those are not the tables alone: then the planner,
    which knows only tables, is not asked.
    """

    kind: RequestKind
    fingerprint: str
    estimate: Estimate | None = None
    shape: Shape = Shape()  # noqa: RUF009 - immutable
    time_left: float = math.inf
    criticality: Criticality = Criticality.CRITICAL
    payload: int = 0
    expected: float | None = None


@dataclass(frozen=True, slots=True)
class Classified:
    """The class with what decided it, the predicted cost for people, and the predicted time for admission.

    ``seats`` and ``memory`` (bytes) are what it needs of the database. ``job`` says why it should be a job, if it
    should. ``subject`` is what was classified, for :meth:`Classifier.observe`.
    """

    classification: Classification
    predicted: Cost
    quantiles: Quantiles
    seats: int = 1
    memory: int = 0
    job: str = ""
    subject: Subject = Subject(RequestKind.JOB, "")


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the database was: the share of seats that others used, and the speed relative to an idle one."""

    occupancy: float = 0.0
    progress: float = 1.0

    def beside(self, other: Load) -> Load:
        """The busier of two moments in each respect."""
        return Load(max(self.occupancy, other.occupancy), min(self.progress, other.progress))


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went: seconds of work, rows and bytes, and how busy the database was meanwhile.

    A run that was ``cut_short`` would have taken longer.
    """

    seconds: float
    row_count: int = 0
    byte_count: int = 0
    cut_short: bool = False
    load: Load = Load()


class Classifier:
    """Predicts and learns; remembers at most ``capacity`` cost fingerprints, of which each takes some 3 kB."""

    def __init__(self, limits: ClassLimits | None = None, capacity: int = 4096) -> None:
        self._limits = limits or ClassLimits()
        self._new = 0
        self.histories = Histories(capacity)
        self.classes: dict[RequestKind, Sketch] = {kind: Sketch(CLASS_MEMORY) for kind in RequestKind}
        self.model = PlanModel()
        self.calibrations = {basis: Calibration() for basis in Basis}

    def classify(self, subject: Subject, now: float) -> Classified:
        """The class and the predicted cost; ``now`` is the monotonic clock in seconds."""
        history, asked = self.histories.find(subject.fingerprint), subject
        basis, guess = self._guess(subject, history)
        subject = _completed(subject, history)
        quantiles, confidence, fading = Quantiles(), self._confidence(basis, history), 1.0
        if guess is not None:
            quantiles = self.calibrations[basis].quantiles(guess)
        if basis is Basis.HISTORY and history is not None:
            fading = history.fading(now)
        late = quantiles.p10 > subject.time_left  # old knowledge does not refuse for ever
        judged = Quantiles(quantiles.p10 * (fading if late else 1.0), quantiles.p50 * fading, quantiles.p90)
        verdict = decide(subject.kind, judged, confidence, subject.time_left, self._limits)
        seats, estimate = seats_of(subject.estimate), subject.estimate
        guessed = math.exp(guess.centre) if guess is not None else 0.0
        found = [
            *factors(basis, guessed, quantiles, history, estimate, subject.shape, seats),
            *caller_factors(subject.criticality, subject.payload),
            *([verdict.factor] if verdict.factor is not None else []),
        ]
        rows, size = _size(history, estimate)
        samples = history.samples if history is not None else 0
        return Classified(
            Classification(verdict.cost_class, verdict.pool, basis, confidence, samples, tuple(found)),
            Cost(quantiles.p50, quantiles.p90, rows, size, float(seats)),
            replace(quantiles, p10=judged.p10),
            seats,
            estimate.memory if estimate is not None else 0,
            verdict.job,
            asked,
        )

    def wants_estimate(self, subject: Subject) -> bool:
        """Whether the planner should be asked first, which costs a round trip.

        Never for a question that is known, by its runs or by an estimate kept from before, unless the end of its class
        lies within what it may take: then the estimate for its very literals may decide, and a round trip is little
        beside work at the end of a class. For a new question when nothing is known of its class either, or when some of
        its class come near its end; and now and then so that the model learns.
        """
        if subject.expected is not None:
            return False
        history = self.histories.find(subject.fingerprint)
        ends = ends_of(subject.kind, self._limits)
        if history is not None and (history.known or history.estimate is not None):
            basis, guess = self._guess(subject, history)
            if guess is None:
                return False
            found = self.calibrations[basis].quantiles(guess)
            return any(found.p10 < end < found.p90 for end in ends)
        known = self.classes[subject.kind]
        self._new += 1
        near = any(known.quantile(0.9) * NEAR > end for end in ends)
        return known.total < 1.0 or near or self._new % SAMPLE_EVERY == 0

    def keep(self, subject: Subject, now: float) -> None:
        """Remembers the planner's estimate of a subject for the next time."""
        self.histories.open(subject.fingerprint, now).estimate = subject.estimate

    def observe(self, subject: Subject, run: Run, now: float) -> None:
        """Learns from a run."""
        history = self.histories.open(subject.fingerprint, now)
        basis, guess = self._guess(subject, history)
        history.estimate = subject.estimate or history.estimate
        seconds = max(run.seconds, 1e-6)
        disturbed = run.load.occupancy >= QUIET
        if run.cut_short:
            if disturbed:  # by itself it might have been done by then
                return
            if guess is not None:
                self.calibrations[basis].observe_above(guess, seconds)
            history.add_cut_short(seconds, now)
            return
        if disturbed and run.load.progress >= 1.0:
            history.add_size(run.row_count, run.byte_count)
            history.add_contended(seconds, now)
            return
        seconds *= run.load.progress if disturbed else 1.0
        if guess is not None:
            self.calibrations[basis].observe(guess, seconds)
        if subject.estimate is not None:
            planned = self.model.guess(subject.estimate, subject.shape)
            if basis is not Basis.PLAN:
                self.calibrations[Basis.PLAN].observe(planned, seconds)
            history.offset.add(seconds / math.exp(planned.centre))
            self.model.observe(subject.estimate, subject.shape, seconds)
        history.add(seconds, run.row_count, run.byte_count, now)
        self.classes[subject.kind].add(seconds)

    def _guess(self, subject: Subject, history: History | None) -> tuple[Basis, Guess | None]:
        planned, own = None, subject.estimate is not None
        subject = _completed(subject, history)
        if subject.estimate is not None and subject.estimate.total_cost > 0.0:
            planned = self.model.guess(subject.estimate, subject.shape)
        if history is not None and history.known:
            return Basis.HISTORY, history.guess(planned, own=own, trust=self.model.trust)
        ceiling = math.log(history.ceiling) if history is not None else math.inf
        if subject.expected is not None:
            centre = math.log(max(subject.expected, 1e-6))
            return Basis.PLAN, Guess(min(centre, ceiling), *EXPECTED_SPREAD)
        if planned is not None:
            return Basis.PLAN, replace(planned, centre=min(planned.centre, ceiling))
        known = self.classes[subject.kind]
        if known.total <= 0.0:
            return Basis.REQUEST, None
        low, middle, high = (math.log(known.quantile(q)) for q in (0.1, 0.5, 0.9))
        spread = [max(0.1, side / NORMAL) for side in (middle - low, high - middle)]
        return Basis.CLASS_MEDIAN, Guess(min(middle, ceiling), spread[0], spread[1])

    def _confidence(self, basis: Basis, history: History | None) -> float:
        match basis:
            case Basis.HISTORY:
                assert history is not None
                return history.samples / (history.samples + 1)
            case Basis.PLAN:
                return 0.3 + 0.5 * self.model.trust
            case Basis.CLASS_MEDIAN:
                return 0.25
            case _:
                return 0.1

    @property
    def calibration_errors(self) -> tuple[tuple[Basis, float], ...]:
        """How far coverage is from the levels, for every basis that predictions have rested on."""
        return tuple((basis, c.error) for basis, c in self.calibrations.items() if c.count)


def _completed(subject: Subject, history: History | None) -> Subject:
    """The subject with the estimate that was kept, when it has none."""
    if subject.estimate is None and history is not None and history.estimate is not None:
        return replace(subject, estimate=history.estimate)
    return subject


def _size(history: History | None, estimate: Estimate | None) -> tuple[int, int]:
    """Rows and bytes to expect."""
    if history is not None and history.rows.total > 0.0:
        return history.size
    return (estimate.rows, estimate.rows * estimate.width) if estimate is not None else (0, 0)

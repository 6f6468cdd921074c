"""The changes of all tracked datasets, as one poller of PostgreSQL sees them.

Writers leave marks for rollups: what they changed, and in which transaction. One small statement a few times a second
reads those that are new, and compares the catalog with what it was when the triggers were accepted. An answer is told
by the snapshot of the look before it was read. It equals a live one at the last look when no mark meets what it read
that its snapshot does not see. Whatever may have been missed makes it unknown: sight is lost, never assumed.

A dataset is tracked where a rollup with triggers, or with a change token, is installed; see `docs/cache.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from broker.adapters.pg_changes_look import Key, Look, SourceLook
from broker.adapters.pg_changes_reads import (
    Columns,
    marked,
    marked_for,
    marked_in,
    read_by,
    shape_of,
    times_of,
    token_of,
    within,
)
from broker.adapters.pg_changes_seen import Seen, unseen
from broker.adapters.pg_rollup_visibility import TransactionView
from broker.adapters.sql.compiler import Recent
from broker.domain.fingerprint import fingerprint
from broker.domain.held import Reach
from broker.domain.model import Dataset
from broker.domain.plan import Plan
from broker.domain.rollup import Rollup, Span
from broker.policy.reach import reach_of
from broker.policy.rollups.definition import definition

_REMEMBERED = 10_000
"""Moments, verdicts and plans that are remembered."""
_SEPARATOR = "|"


@dataclass(slots=True)
class _Source:
    """A source that is tracked: what it was accepted as, what is marked, and the marks that were seen."""

    id: str
    columns: Columns
    seen: Seen
    outside: bool


@dataclass(frozen=True, slots=True)
class _Moment:
    """A moment that was read: ``of`` are the versions of what vouches for it, sources and tokens."""

    history: str
    view: TransactionView
    of: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Token:
    """A change token: what it was, when it was asked for, and for how long it is trusted."""

    version: str
    at: float
    patience: float


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Whether any of the first ``count`` marks concerns an answer."""

    seen: Seen
    count: int
    concerned: bool


@dataclass(slots=True)
class _State:
    history: str = ""
    snapshot: str = ""
    view: TransactionView | None = None
    looked: float | None = None
    generation: int = 0
    sources: dict[Key, _Source] = field(default_factory=dict)
    tokens: dict[str, _Token] = field(default_factory=dict)


class Changes:
    """See :class:`broker.ports.changes.ChangeLog`. Told of looks by a poller; does no I/O itself.

    ``clock`` is monotonic. A look is trusted for ``patience`` seconds; then nothing is known until the next.
    """

    def __init__(
        self, datasets: Iterable[Dataset], clock: Callable[[], float], patience: float = 2.0
    ) -> None:
        self._clock, self._patience = clock, patience
        self._datasets = {dataset.name: dataset for dataset in datasets}
        self._times = {name: times_of(dataset) for name, dataset in self._datasets.items()}
        self._tokens = {name: sql for name, each in self._datasets.items() if (sql := token_of(each))}
        # Reading SQL takes a while, so it is done before anything is served.
        self._marked = {key: self._marks_of(key, self._rollups(key)) for key in self.keys}
        self._state = _State()
        self._moments: Recent[str, _Moment] = Recent(_REMEMBERED)
        self._reads: Recent[object, tuple[Dataset, Columns]] = Recent(_REMEMBERED)
        self._verdicts: Recent[tuple[str, Key, Span], _Verdict] = Recent(_REMEMBERED)

    @property
    def generation(self) -> int:
        """Grows with every look that found a change or lost sight of one."""
        return self._state.generation

    @property
    def keys(self) -> tuple[Key, ...]:
        """The sources whose marks are looked for."""
        return tuple((name, time) for name, times in self._times.items() for time in times)

    @property
    def tokens(self) -> Mapping[str, str]:
        """The SQL of change tokens, by dataset."""
        return self._tokens

    @property
    def view(self) -> TransactionView | None:
        """The snapshot of the last look; None when the next has to look at everything."""
        return self._state.view

    def moment(self, plan: Plan) -> str:
        """The last look at what a plan reads; "" where changes of something that it reads would not be seen."""
        state, dataset, now = self._state, plan.main.dataset, self._clock()
        if self._datasets.get(dataset.name) is not dataset:
            return ""
        found = []
        token = state.tokens.get(dataset.name)
        if token is not None and now - token.at <= token.patience:
            found.append(token.version)
        if self._times[dataset.name] and self._age(now) is not None:
            reach = reach_of(plan)
            for time in self._times[dataset.name]:
                source = state.sources.get((dataset.name, time))
                if (
                    source is not None
                    and marked_in(reach.span(time), outside=source.outside) is not None
                    and within(self._read(plan), source.columns)
                ):
                    found.append(source.id)
        return _SEPARATOR.join((state.history, state.snapshot, *found)) if found else ""

    def unchanged(self, reach: Reach, moment: str) -> float | None:
        """Age in seconds of the look by which nothing in reach had changed since the moment, else None."""
        if not moment:
            return None
        state, now = self._state, self._clock()
        then = self._moments.get(moment)
        if then is None:
            if (then := _parsed(moment)) is None:
                return None
            self._moments.put(moment, then)
        age = self._age(now)
        if age is not None and then.history == state.history:
            for time in self._times.get(reach.dataset, ()):
                key = reach.dataset, time
                source = state.sources.get(key)
                if (
                    source is not None
                    and source.id in then.of
                    and self._same(moment, then.view, key, source, reach)
                ):
                    return age
        token = state.tokens.get(reach.dataset)
        if token is not None and token.version in then.of and now - token.at <= token.patience:
            return now - token.at
        return None

    def extent(self) -> Mapping[str, float | None]:
        """Age of the last look at each tracked dataset, None where it never succeeded."""
        state, now = self._state, self._clock()
        found: dict[str, float | None] = {}
        for name, times in self._times.items():
            looks = [state.looked for time in times if (name, time) in state.sources]
            if (token := state.tokens.get(name)) is not None:
                looks.append(token.at)
            if times or name in self._tokens:
                found[name] = min((now - at for at in looks if at is not None), default=None)
        return found

    def looked(self, at: float, found: Look) -> None:
        """Takes in a look that began at an instant of the clock."""
        state = self._state
        news = state.history != found.history
        if news:
            state.sources, state.tokens = {}, {}
        last = None if news else state.view
        kept = {}
        for key, each in found.sources.items():
            kept[key], more = self._source(key, each, found, last)
            news = news or more
        news = news or kept.keys() != state.sources.keys()
        state.history, state.snapshot, state.view = found.history, found.snapshot, found.view
        state.sources, state.looked = kept, at
        state.generation += news

    def told(self, dataset: str, at: float, token: str | None, patience: float) -> None:
        """Takes in a change token that was asked for at an instant of the clock; None when it could not be had."""
        state = self._state
        known = state.tokens.pop(dataset, None)
        version = None if token is None else fingerprint(state.history, dataset, token)
        if version is not None:
            state.tokens[dataset] = _Token(version, at, patience)
        state.generation += version != (None if known is None else known.version)

    def blind(self) -> None:
        """Forgets everything: nothing is known until the next look."""
        self._state = _State(generation=self._state.generation + bool(self._state.sources))

    def _source(
        self, key: Key, each: SourceLook, found: Look, last: TransactionView | None
    ) -> tuple[_Source, bool]:
        """What is known of a source after a look, and whether that changes a verdict."""
        known = self._state.sources.get(key)
        if known is None or known.id != each.version:
            # All marks that are there were read, unless only those since another look were.
            whole = last is None and each.marks is not None
            source = _Source(
                each.version,
                self._columns(key, each.definitions),
                Seen(each.collected, None if whole else found.view),
                each.outside,
            )
            if whole:
                source.seen.saw(found.view, each.marks or ())
            return source, True
        if each.marks is None or (last is not None and unseen(last, each.collected)):
            known.seen = Seen(each.collected, found.view)
            return known, True
        return known, known.seen.saw(found.view, each.marks)

    def _columns(self, key: Key, installed: Mapping[str, str]) -> Columns:
        """What is marked for the rollups that are installed as they are declared here."""
        dataset, declared = self._datasets[key[0]], self._rollups(key)
        same = {r.name for r in declared if installed.get(r.name) == definition(dataset, r)}
        if len(same) == len(declared):
            return self._marked[key]
        return self._marks_of(key, [rollup for rollup in declared if rollup.name in same])

    def _rollups(self, key: Key) -> list[Rollup]:
        return [rollup for rollup in marked(self._datasets[key[0]]) if rollup.time == key[1]]

    def _marks_of(self, key: Key, rollups: Iterable[Rollup]) -> Columns:
        names = {rollup.name for rollup in rollups}
        return marked_for(self._datasets[key[0]], key[1], names) if names else {}

    def _same(self, moment: str, view: TransactionView, key: Key, source: _Source, reach: Reach) -> bool:
        """Whether no mark of a source concerns what was read. What did once does so for ever."""
        span, seen = marked_in(reach.span(key[1]), outside=source.outside), source.seen
        if span is None or not seen.knows(view):
            return False
        told = self._verdicts.get((moment, key, span))
        if told is not None and told.seen is seen:
            if told.concerned or told.count == seen.count:
                return not told.concerned
            concerned = seen.concerned(view, span, told.count)
        else:
            concerned = seen.concerned(view, span)
        self._verdicts.put((moment, key, span), _Verdict(seen, seen.count, concerned))
        return not concerned

    def _read(self, plan: Plan) -> Columns:
        dataset = plan.main.dataset
        return self._reads.setdefault(shape_of(plan), lambda: (dataset, read_by(plan)))[1]

    def _age(self, now: float) -> float | None:
        """Age of the last look, while it is trusted."""
        at = self._state.looked
        return now - at if at is not None and now - at <= self._patience else None


def _parsed(moment: str) -> _Moment | None:
    """Reads a moment; None for one that nobody here has written."""
    history, text, *of = moment.split(_SEPARATOR)
    try:
        return _Moment(history, TransactionView.parse(text or "0:0:"), frozenset(of))
    except ValueError:
        return None

"""From plans to statements, through a bounded memory of shapes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from broker.adapters.sql.build import ScanBuilder
from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.relation import Relation, relation
from broker.adapters.sql.shape import finish_shape, pieces, scan_shape
from broker.adapters.sql.statements import Compiled, ScanStatements, Statement
from broker.adapters.sql.values import Value
from broker.domain.measures import SKETCHES
from broker.domain.model import Dataset
from broker.domain.plan import Finish, Leaf, Plan, Scan
from broker.domain.rollup import Rollup, Span

MakeBuilder = Callable[[Scan, Mapping[str, Leaf], DatasetSql], ScanBuilder]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The ``size`` most recently used entries."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry, which becomes the youngest."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keeps an entry, and forgets the oldest when there are too many."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def setdefault(self, key: K, make: Callable[[], V]) -> V:
        """The entry, made when it is missing."""
        found = self.get(key)
        if found is None:
            found = make()
            self.put(key, found)
        return found


class SqlCompiler:
    """Compiles plans. A plan whose shape was compiled before costs some microseconds, another some milliseconds.

    Use from one thread. ``shapes`` bounds the number of kept statements, ``datasets`` that of parsed datasets.
    """

    def __init__(self, *, shapes: int = 1_000, datasets: int = 1_000) -> None:
        self._compiled: Recent[Hashable, Compiled] = Recent(shapes)
        self._datasets: Recent[int, DatasetSql] = Recent(datasets)
        self._relations: Recent[tuple[int, int], Relation] = Recent(datasets)

    def dataset(self, dataset: Dataset) -> DatasetSql:
        """The parsed expressions of a dataset.

        Found by identity: the model is built once. The entry holds the dataset, so its id is not given away again.
        """
        return self._datasets.setdefault(id(dataset), lambda: DatasetSql(dataset))

    def compile(self, plan: Plan) -> tuple[ScanStatements, ...]:
        """The statements of every scan of the plan, main first.

        Raises:
            BrokerError: INVALID_REQUEST for text that PostgreSQL cannot hold; PERMISSION_DENIED when a row policy
                needs what the principal lacks.
        """
        return tuple(
            self._scan(scan, plan.finish, plan.finish if scan is plan.main else None) for scan in plan.scans
        )

    def scan(self, scan: Scan, finish: Finish) -> ScanStatements | None:
        """The statements of one scan, of whose finish nothing is done in the database; None when nothing is to be read.

        Raises:
            BrokerError: As :meth:`compile` does.
        """
        return None if pieces(scan) == () else self._scan(scan, finish, None)

    def rolled(
        self, scan: Scan, finish: Finish, rollup: Rollup, spans: Sequence[Span]
    ) -> ScanStatements | None:
        """The statements of one scan over a rollup that is a table or view; None when no span has anything to read.

        Raises:
            BrokerError: As :meth:`compile` does.
        """
        found = self._relation(scan.dataset, rollup)
        own = found.scan(scan, spans)
        return None if pieces(own) == () else self._scan(own, finish, None, found.builder)

    def pretty(self, plan: Plan) -> tuple[str, ...]:
        """The statements with literals, laid out for people."""
        found: list[str] = []
        for scan in plan.scans:
            finish = plan.finish if scan is plan.main else None
            builder = ScanBuilder(scan, _leaves(plan.finish), self.dataset(scan.dataset), pretty=True)
            statements = self._scan(scan, plan.finish, finish)
            if statements.grouped is not None:
                found.append(builder.grouped(finish).text.literal(statements.grouped.values))
            for name, statement in statements.values.items():
                leaf = _leaves(plan.finish)[name]
                found.append(builder.values(leaf).text.literal(statement.values))
        return tuple(found)

    def pretty_rolled(
        self, scan: Scan, finish: Finish, rollup: Rollup, spans: Sequence[Span]
    ) -> tuple[str, ...]:
        """The statement of :meth:`rolled` with literals, laid out for people."""
        statements = self.rolled(scan, finish, rollup, spans)
        if statements is None or statements.grouped is None:
            return ()
        found = self._relation(scan.dataset, rollup)
        own = found.scan(scan, spans)
        builder = found.builder(own, _leaves(finish), self.dataset(own.dataset), pretty=True)
        return (builder.grouped(None).text.literal(statements.grouped.values),)

    def _relation(self, dataset: Dataset, rollup: Rollup) -> Relation:
        key = (id(dataset), id(rollup))
        return self._relations.setdefault(key, lambda: relation(dataset, rollup))

    def _scan(
        self, scan: Scan, known: Finish, finish: Finish | None, make: MakeBuilder = ScanBuilder
    ) -> ScanStatements:
        sql = self.dataset(scan.dataset)
        values: list[Value] = []
        shape = (id(scan.dataset), scan_shape(scan, sql, values))
        pushed: list[Value] = []
        finishing = finish_shape(finish, pushed) if finish is not None else ()

        def statement(
            part: Hashable, given: list[Value], limit: int | None, build: Callable[[], Compiled]
        ) -> Statement:
            key = (shape, part)
            compiled = self._compiled.setdefault(key, build)
            return Statement(compiled, tuple(given), key, scan.dataset.name, limit)

        grouped: Statement | None = None
        sketched = [m for m in scan.leaves if m.kind in SKETCHES]
        if scan.dimensions or scan.grid is not None or len(sketched) < len(scan.leaves):
            limit = _row_limit(scan, known if finishing else None)
            grouped = statement(
                finishing, values + pushed, limit, lambda: make(scan, _leaves(known), sql).grouped(finish)
            )
        return ScanStatements(
            grouped,
            {
                m.name: statement(m.name, values, None, partial(self._values, scan, known, m.name))
                for m in sketched
            },
        )

    def _values(self, scan: Scan, known: Finish, measure: str) -> Compiled:
        return ScanBuilder(scan, _leaves(known), self.dataset(scan.dataset)).values(_leaves(known)[measure])


def _leaves(finish: Finish) -> dict[str, Leaf]:
    return {leaf.measure.name: leaf for leaf in finish.leaves}


def _row_limit(scan: Scan, finish: Finish | None) -> int | None:
    limits: list[int] = []
    if not scan.dimensions:
        limits.append(len(scan.grid.starts) if scan.grid is not None else 1)
    if finish is not None and finish.limit:
        limits.append(finish.limit)
    return min(limits, default=None)

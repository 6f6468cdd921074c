"""Random queries over a dataset, all of them valid.

One description of the space of queries serves both the seeded generator (thousands of queries in seconds) and the
Hypothesis strategy. What the contract leaves open is not generated: sketched values decide nothing (no condition, rank
or order by them), since two right answers may differ in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import strategies as st

from querybroker.v1 import query_pb2 as q
from tests.oracle.choosing import Chooser, Drawn, Seeded, subset
from tests.oracle.model import ADDITIVE, OracleModel
from tests.oracle.selecting import bucket_count, shift, time_selection
from tests.oracle.timing import grain_name
from tests.oracle.values import cardinalities, condition, filter_tree, samples

MAX_GROUPS = 6_000
_NUMERIC = frozenset({"INT64", "DOUBLE", "DECIMAL"})
_THRESHOLDS: Mapping[str, Sequence[object]] = {
    "INT64": (1, 2, 3, 10, 50, 200, 1000),
    "DOUBLE": (0.25, 0.5, 1.0, 10.0, 33.5),
    "DECIMAL": (Decimal("1.5"), Decimal(1000), Decimal("160934.4")),
}


@dataclass(frozen=True, slots=True)
class QuerySpace:
    """The queries over a dataset as they can be asked at ``now`` (an instant; relative ranges lead back from it)."""

    model: OracleModel
    known: Mapping[str, Sequence[object]]
    sizes: Mapping[str, int]
    now: int

    @classmethod
    def over(cls, model: OracleModel, now: int) -> QuerySpace:
        """The space with values and cardinalities of the dataset's rows."""
        return cls(model, samples(model), cardinalities(model), now)

    def seeded(self, seed: int) -> Iterator[q.Query]:
        """Endless queries of a seed."""
        chooser = Seeded(seed)
        while True:
            yield self.query(chooser)

    def strategy(self) -> st.SearchStrategy[q.Query]:
        """The same queries for Hypothesis."""
        return st.composite(lambda draw: self.query(Drawn(draw)))()

    def query(self, chooser: Chooser) -> q.Query:
        """One query."""
        model = self.model
        query = q.Query(dataset=model.dataset)
        measures = 0 if chooser.chance(6) else chooser.integer(1, 4)
        query.measures.extend(subset(chooser, list(model.measures), measures, measures))
        if chooser.chance(15):
            return self._simple(chooser, query)
        rolling = [name for name in query.measures if model.mergeable(name)]
        self._time(chooser, query, rolling=bool(rolling) and chooser.chance(15))
        self._dimensions(chooser, query)
        if chooser.chance(50):
            query.filter.CopyFrom(filter_tree(chooser, lambda: self._where(chooser), 3))
        self._calculations(chooser, query)
        decisive = [name for name in query.measures if not model.sketched(name)]
        if decisive and chooser.chance(25):
            query.having.CopyFrom(filter_tree(chooser, lambda: self._having(chooser, decisive), 2))
        self._order(chooser, query)
        if chooser.chance(40):
            query.limit = chooser.choice((1, 2, 3, 5, 10, 20, 50, 1000))
        return query

    def _simple(self, chooser: Chooser, query: q.Query) -> q.Query:
        """Measures by dimensions, perhaps filtered and limited: what the database can answer alone."""
        self._dimensions(chooser, query)
        if chooser.chance(40):
            query.filter.condition.CopyFrom(self._where(chooser))
        self._order(chooser, query)
        query.limit = chooser.choice((0, 0, 3, 25))
        return query

    def _time(self, chooser: Chooser, query: q.Query, *, rolling: bool) -> None:
        if not self.model.default_time or (not rolling and chooser.chance(25)):
            return
        named = [spec for spec in self.model.dimensions.values() if spec.time]
        default = self.model.dimensions[self.model.default_time]
        spec = default if chooser.chance(60) else chooser.choice(named)
        name = "" if spec is default and chooser.chance(50) else spec.name
        query.time.CopyFrom(
            time_selection(
                chooser,
                name,
                dated=spec.type == "DATE",
                aligned=rolling,
                need_range=False,
                now=self.now,
            )
        )
        if rolling:
            windows = subset(chooser, [m for m in query.measures if self.model.mergeable(m)], 1, 2)
            for measure in windows:
                buckets = chooser.choice((2, 3, 7, 12))
                query.calculations.rolling_windows.add(measure=measure, buckets=buckets)

    def _time_name(self, query: q.Query) -> str:
        return query.time.dimension or self.model.default_time

    def _dimensions(self, chooser: Chooser, query: q.Query) -> None:
        """Dimensions whose groups are not too many; a gap fill multiplies them by the buckets."""
        grouped = query.HasField("time") and query.time.grain != 0
        left = MAX_GROUPS // (bucket_count(query.time) if grouped and query.time.gap_fill else 1)
        bare = not query.measures and not grouped
        for _ in range(chooser.choice((1, 2, 0, 1, 3)) or int(bare)):
            fitting = [
                name
                for name, size in self.sizes.items()
                if size <= left
                and name not in query.dimensions
                and not (grouped and name == self._time_name(query))
            ]
            if fitting:
                query.dimensions.append(chooser.choice(fitting))
                left //= self.sizes[query.dimensions[-1]]

    def _where(self, chooser: Chooser) -> q.Condition:
        spec = self.model.dimensions[chooser.choice(list(self.model.dimensions))]
        return condition(chooser, spec.name, spec.type, self.known[spec.name])

    def _having(self, chooser: Chooser, names: Sequence[str]) -> q.Condition:
        """A condition on a measure, with values out of its input where it has one of the result's type."""
        name = chooser.choice(names)
        spec, type_ = self.model.measures[name], self.model.result(name)[0]
        known: list[object] = list(_THRESHOLDS.get(type_, ()))
        if spec.kind in {"MIN", "MAX", "FIRST", "LAST"} or (spec.kind == "SUM" and chooser.chance(50)):
            known = list(self.known[spec.input])
        elif spec.kind in {"AVG", "EXACT_PERCENTILE"}:
            known = [float(str(v)) for v in self.known[spec.input]]
        return condition(chooser, name, type_, known)

    def _calculations(self, chooser: Chooser, query: q.Query) -> None:
        model, calculations = self.model, query.calculations
        grain = grain_name(query.time.grain)
        ranged = query.HasField("time") and query.time.WhichOneof("range") is not None
        numeric = [m for m in query.measures if model.result(m)[0] in _NUMERIC]
        if ranged and numeric and chooser.chance(25):
            dated = model.dimensions[self._time_name(query)].type == "DATE"
            calculations.compare_to.CopyFrom(shift(chooser, grain, dated=dated))
            if len(numeric) < len(query.measures) or chooser.chance(40):
                calculations.compare_to.measures.extend(subset(chooser, numeric, 1, 3))
        additive = [m for m in query.measures if model.measures[m].kind in ADDITIVE]
        if additive and chooser.chance(20):
            keys = [*query.dimensions, *([self._time_name(query)] if grain else [])]
            for measure in subset(chooser, additive, 1, 2):
                calculations.shares.add(measure=measure, within=subset(chooser, keys, 0, len(keys)))
        ranking = [m for m in numeric if model.mergeable(m) and not model.sketched(m)]
        if ranking and query.dimensions and chooser.chance(30):
            top = calculations.top_n
            top.count = chooser.choice((1, 2, 3, 5, 10, 100))
            top.dimension = chooser.choice(list(query.dimensions))
            top.by = chooser.choice(ranking)
            top.ascending = chooser.chance(30)
            top.other = all(model.mergeable(m) for m in query.measures) and chooser.chance(50)

    def _order(self, chooser: Chooser, query: q.Query) -> None:
        """Sort keys over columns of the answer that are not sketched."""
        calculations = query.calculations
        names = [*query.dimensions, *([self._time_name(query)] if query.time.grain else [])]
        names += query.measures
        if calculations.HasField("compare_to"):
            for m in list(calculations.compare_to.measures) or list(query.measures):
                names += [f"{m}__previous", f"{m}__change", f"{m}__change_ratio"]
        names += [f"{share.measure}__share" for share in calculations.shares]
        names += [f"{window.measure}__rolling" for window in calculations.rolling_windows]
        if calculations.top_n.other:
            names.append(f"{calculations.top_n.dimension}__other")
        measured = {m for m in query.measures if self.model.sketched(m)}
        fitting = [name for name in names if name.split("__", maxsplit=1)[0] not in measured]
        for name in subset(chooser, fitting, 1, 3) if chooser.chance(50) else []:
            query.order.add(
                member=name,
                direction=chooser.choice(
                    (q.SORT_DIRECTION_UNSPECIFIED, q.SORT_DIRECTION_DESC, q.SORT_DIRECTION_ASC)
                ),
                nulls=chooser.choice((q.NULL_ORDER_UNSPECIFIED, q.NULL_ORDER_FIRST, q.NULL_ORDER_LAST)),
            )


def features(query: q.Query) -> list[str]:
    """What is special about a query, for reports."""
    calculations, time = query.calculations, query.time
    found = {
        "distinct values": not query.measures,
        "no groups": not query.dimensions and not time.grain,
        "two or more dimensions": len(query.dimensions) > 1,
        "time grain": bool(time.grain),
        "time range only": query.HasField("time") and not time.grain,
        "zone": time.zone not in {"", "UTC"},
        "gap fill": time.gap_fill,
        "filter": query.HasField("filter"),
        "having": query.HasField("having"),
        "order": bool(query.order),
        "limit": bool(query.limit),
        "comparison": calculations.HasField("compare_to"),
        "share": bool(calculations.shares),
        "rolling window": bool(calculations.rolling_windows),
        "top N": calculations.HasField("top_n") and not calculations.top_n.other,
        "top N with other": calculations.top_n.other,
    }
    return [name for name, true in found.items() if true] or ["plain"]

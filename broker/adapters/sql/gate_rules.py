"""What SQL of callers may consist of. Everything that is not named here is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

PLAIN_ARGS: Final = frozenset({"this", "expression", "expressions"})
"""Parts that every allowed node may have."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """How large a statement may be: characters, tokens, nesting of brackets and CASE, tables, nested queries.

    ``functions`` are allowed beside the built-in ones.
    """

    characters: int = 16_384
    tokens: int = 4_000
    depth: int = 32
    tables: int = 12
    queries: int = 16
    functions: frozenset[str] = frozenset()


def _rules(*groups: tuple[Iterable[type[exp.Expr]], str]) -> dict[type[exp.Expr], frozenset[str]]:
    return {kind: frozenset(parts.split()) for kinds, parts in groups for kind in kinds}


# Node classes and the parts that they may have beside PLAIN_ARGS. A class stands for itself, not for its subclasses.
STRUCTURE: Final[Mapping[type[exp.Expr], frozenset[str]]] = _rules(
    ((exp.Select,), "from_ where group having order limit offset joins distinct with_"),
    ((exp.Union, exp.Intersect, exp.Except), "distinct order limit offset with_"),
    ((exp.Subquery, exp.CTE), "alias"),
    (
        (
            exp.With,
            exp.From,
            exp.Where,
            exp.Group,
            exp.Having,
            exp.Order,
            exp.Limit,
            exp.Offset,
            exp.Distinct,
        ),
        "",
    ),
    ((exp.Ordered,), "desc nulls_first"),
    ((exp.Table,), "alias"),
    ((exp.TableAlias,), "columns"),
    ((exp.Join,), "side kind on using"),
    ((exp.Identifier,), "quoted"),
    ((exp.Column,), "table"),
    ((exp.Alias,), "alias"),
    ((exp.Star, exp.Null, exp.Boolean, exp.Paren, exp.Tuple, exp.Parameter, exp.Var), ""),
    ((exp.Literal,), "is_string"),
    ((exp.Window,), "partition_by order spec over"),
    ((exp.WindowSpec,), "kind start start_side end end_side"),
    ((exp.Filter, exp.WithinGroup), ""),
)
OPERATORS: Final[Mapping[type[exp.Expr], frozenset[str]]] = _rules(
    ((exp.And, exp.Or, exp.Not, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Mod), ""),
    ((exp.Div,), "typed safe"),
    ((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ), ""),
    ((exp.DPipe,), "safe"),
    ((exp.Between,), "low high symmetric"),
    ((exp.In,), "query"),
    ((exp.Is,), "negate"),
    ((exp.Like, exp.ILike, exp.Escape, exp.Exists), ""),
    ((exp.AtTimeZone,), "zone"),
    ((exp.Interval,), "unit"),
    ((exp.Cast,), "to"),
    ((exp.DataType,), "nested"),
    ((exp.DataTypeParam,), ""),
    ((exp.Case,), "ifs default"),
    ((exp.If,), "true"),
)
FUNCTIONS: Final[Mapping[type[exp.Expr], frozenset[str]]] = _rules(
    ((exp.Count,), "big_int"),
    (
        (
            exp.Sum,
            exp.Avg,
            exp.Min,
            exp.Max,
            exp.Stddev,
            exp.StddevPop,
            exp.StddevSamp,
            exp.Variance,
            exp.VariancePop,
        ),
        "",
    ),
    ((exp.LogicalAnd, exp.LogicalOr, exp.PercentileCont, exp.PercentileDisc, exp.Mode, exp.Corr), ""),
    ((exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile), ""),
    ((exp.Lag, exp.Lead), "offset default"),
    ((exp.FirstValue, exp.LastValue), ""),
    ((exp.NthValue,), "offset"),
    ((exp.RegrSlope, exp.RegrIntercept, exp.RegrR2), ""),
    ((exp.Abs, exp.Sqrt, exp.Cbrt, exp.Exp, exp.Ln, exp.Log, exp.Pow, exp.Sign), ""),
    ((exp.Ceil, exp.Floor, exp.Round, exp.Trunc), "decimals"),
    ((exp.Greatest, exp.Least), "ignore_nulls"),
    ((exp.Coalesce, exp.Nullif, exp.StartsWith), ""),
    ((exp.Lower, exp.Upper, exp.Length, exp.Left, exp.Right, exp.Initcap), ""),
    ((exp.Substring,), "start length"),
    ((exp.Trim,), "position"),
    ((exp.StrPosition,), "substr"),
    ((exp.SplitPart,), "delimiter part_index"),
    ((exp.Concat,), "safe coalesce"),
    ((exp.TimestampTrunc,), "unit zone"),
    ((exp.Extract, exp.CurrentDate, exp.CurrentTimestamp), ""),
    ((exp.TimeToStr,), "format"),
)
RULES: Final = {**STRUCTURE, **OPERATORS, **FUNCTIONS}

NAMED_FUNCTIONS: Final = frozenset({"age", "every", "isfinite", "make_date"})
"""Allowed functions that sqlglot has no class for."""

TYPES: Final = frozenset({
    exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT, exp.DType.DECIMAL, exp.DType.FLOAT, exp.DType.DOUBLE,
    exp.DType.BOOLEAN, exp.DType.TEXT, exp.DType.VARCHAR, exp.DType.CHAR, exp.DType.BPCHAR, exp.DType.DATE,
    exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ, exp.DType.INTERVAL,
})  # fmt: skip
"""Types to cast to. Not among them: names of catalogue objects (regclass), documents, arrays, user-defined types."""

UNITS: Final = frozenset({
    "MICROSECOND", "MICROSECONDS", "MILLISECOND", "MILLISECONDS", "SECOND", "SECONDS", "MINUTE",
    "MINUTES", "HOUR", "HOURS", "DAY", "DAYS", "WEEK", "WEEKS", "MONTH", "MONTHS", "QUARTER",
    "QUARTERS", "YEAR", "YEARS", "DECADE", "CENTURY", "MILLENNIUM", "EPOCH", "DOW", "DOY", "ISODOW",
    "ISOYEAR",
})  # fmt: skip
"""Words that may stand bare. sqlglot makes them of strings too, unchecked: ``date_part('day from x), f(', y)``."""

JOIN_SIDES: Final = frozenset({"", "LEFT", "RIGHT", "FULL"})
JOIN_KINDS: Final = frozenset({"", "INNER", "OUTER", "CROSS"})
FRAME_KINDS: Final = frozenset({"ROWS", "RANGE"})
FRAME_BOUNDS: Final = frozenset({"UNBOUNDED", "CURRENT ROW"})
FRAME_SIDES: Final = frozenset({"", "PRECEDING", "FOLLOWING"})

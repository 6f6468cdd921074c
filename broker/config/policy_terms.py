"""Whether a row policy is a conjunction of equalities over dimensions, so that it can be applied to stored values."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from broker.config.expressions import with_stand_ins
from broker.domain.model import Dimension
from broker.domain.values import DataType

_DIALECT = "postgres"


def policy_terms(
    sql: str, dimensions: Mapping[str, Dimension], values: Collection[str]
) -> tuple[tuple[str, str], ...] | None:
    """The policy's predicate as (dimension, placeholder) pairs; None when it says anything else.

    A side must be the very expression of a dimension of type string, since ``values`` of the caller are bound as text.
    """
    plain, names = with_stand_ins(sql, values)
    try:
        tree = sqlglot.parse_one(plain, dialect=_DIALECT)
        known = {
            _shown(sqlglot.parse_one(dimension.sql, dialect=_DIALECT)): name
            for name, dimension in reversed(tuple(dimensions.items()))
            if dimension.type is DataType.STRING
        }
    except SqlglotError:
        return None
    terms: list[tuple[str, str]] = []
    bare = tree.unnest()
    for part in bare.flatten() if isinstance(bare, exp.And) else [bare]:
        equality = part.unnest()
        if not isinstance(equality, exp.EQ):
            return None
        sides = equality.left.unnest(), equality.right.unnest()
        for value, other in (sides, sides[::-1]):
            placeholder = names.get(value.name) if isinstance(value, exp.Column) and not value.table else None
            dimension = known.get(_shown(other))
            if placeholder is not None and dimension is not None:
                terms.append((dimension, placeholder))
                break
        else:
            return None
    return tuple(terms)


def _shown(tree: exp.Expr) -> str:
    """One text for expressions that differ in spaces and outer brackets only."""
    return tree.unnest().sql(dialect=_DIALECT, comments=False)

"""The expressions of a dataset, each read once, and the rows that they stand on.

sqlglot reads an expression to make sure that it is one; in statements it stands as it was written. Regenerated text is
nearly always the same to PostgreSQL, but nearly is not enough for a text that was checked against the database itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlglot import Dialect, exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from broker.adapters.sql.types import cast, is_atom, typed
from broker.adapters.sql.values import DIALECT, MARK, Places
from broker.domain.model import Dataset, Dimension, JoinKind, RowPolicy
from broker.domain.values import DataType

_PRINCIPAL = re.compile(r"\{(tenant|principal|attributes\.[^{}]+)\}")


class ModelSqlError(ValueError):
    """SQL of the model that cannot be used; the configuration is to be corrected."""


@dataclass(frozen=True, slots=True)
class PolicySql:
    """A row policy's predicate, cut where it takes ``sources``: tenant, principal, attributes.NAME."""

    pieces: tuple[str, ...]
    sources: tuple[str, ...]


def parse_expression(text: str) -> exp.Expr:
    """One SQL expression of the model as a tree.

    Raises:
        ModelSqlError: The text is not one expression, or holds a comment, which would reach beyond it.
    """
    if MARK in text:
        raise ModelSqlError("SQL cannot hold the NUL character")
    dialect = Dialect.get_or_raise(DIALECT)
    try:
        parsed = dialect.parse_into(exp.Condition, text)
        tokens = dialect.tokenize(text)
    except SqlglotError as error:
        raise ModelSqlError(f"not an SQL expression: {text!r}") from error
    strange = any(token.comments or token.token_type is TokenType.L_BRACE for token in tokens)
    if len(parsed) != 1 or parsed[0] is None or strange:
        raise ModelSqlError(f"not one SQL expression without comments and braces: {text!r}")
    return parsed[0]


def read_expression(text: str) -> exp.Expr:
    """The expression as it was written, fit to stand beside any operator. Raises ModelSqlError."""
    return exp.Var(this=text if is_atom(parse_expression(text)) else f"({text})")


def read_policy(text: str) -> PolicySql:
    """The predicate of a row policy.

    Raises:
        ModelSqlError: The text is not one expression, or names the principal inside quotes.
    """
    pieces = _PRINCIPAL.split(text)
    sources = tuple(pieces[1::2])
    tree = parse_expression("".join(p if i % 2 == 0 else f"${i // 2 + 1}" for i, p in enumerate(pieces)))
    numbers = sorted(int(p.name) for p in tree.find_all(exp.Parameter))
    if numbers != list(range(1, len(sources) + 1)):
        raise ModelSqlError(
            f"row policy {text!r}: {{tenant}} and its like are values; they cannot stand inside quotes, "
            "and $1 is not for the model"
        )
    return PolicySql(tuple(pieces[::2]), sources)


class DatasetSql:
    """The SQL of one dataset. Every method gives nodes of the caller's own."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._parsed: dict[str, exp.Expr] = {}
        self._policies: dict[str, PolicySql] = {}

    def expression(self, text: str) -> exp.Expr:
        """The tree of an expression of the model, fit to stand beside any operator."""
        tree = self._parsed.get(text)
        if tree is None:
            tree = self._parsed[text] = read_expression(text)
        return tree.copy()

    def dimension(self, dimension: Dimension) -> exp.Expr:
        """The typed form of a dimension."""
        node = self.expression(dimension.sql)
        return typed(node, dimension.type, dimension.scale, dimension.stored_zone)

    def comparable(self, dimension: Dimension) -> exp.Expr:
        """A dimension as filters compare it: typed, but so that an index on the bare column can still be used."""
        if dimension.type in (DataType.INT64, DataType.DOUBLE):
            return self.expression(dimension.sql)  # comparing across numeric types changes no result
        if dimension.type is DataType.STRING:
            return cast(self.expression(dimension.sql), DataType.STRING)
        return self.dimension(dimension)

    def policy_sources(self, policy: RowPolicy) -> tuple[str, ...]:
        """The values of the principal that a policy needs, in the order of its places."""
        return self._policy(policy).sources

    def policy(self, policy: RowPolicy, places: Places) -> exp.Expr:
        """A policy's predicate with places for the principal's values."""
        parsed = self._policy(policy)
        text = parsed.pieces[0]
        for piece in parsed.pieces[1:]:
            text += places.add(DataType.STRING).sql(dialect=DIALECT) + piece
        return exp.Var(this=f"({text})")

    def column(self, name: str) -> exp.Expr:
        """A column of the dataset's own table."""
        return exp.column(name, table=self.dataset.name, quoted=True)

    def rows(self, aliases: Iterable[str]) -> exp.Select:
        """``FROM`` the dataset's table with the joins that the aliases need, and no others; nothing selected yet."""
        dataset = self.dataset
        query = exp.Select().from_(_table(dataset.table, dataset.name))
        for name in self.joins(aliases):
            join = dataset.joins[name]
            query = query.join(
                _table(join.table, name), on=self.expression(join.on), join_type="left", copy=False
            )
        return query

    def joins(self, aliases: Iterable[str]) -> tuple[str, ...]:
        """The joins that the aliases need, parents before children."""
        found: dict[str, None] = {}

        def add(alias: str) -> None:
            if alias != self.dataset.name and alias not in found:
                add(self.dataset.joins[alias].parent)
                found[alias] = None

        for alias in aliases:
            add(alias)
        return tuple(found)

    def multiplies(self, aliases: Iterable[str]) -> bool:
        """Whether a row of the dataset may occur several times once the aliases are joined."""
        return any(self.dataset.joins[name].kind is JoinKind.ONE_TO_MANY for name in self.joins(aliases))

    def _policy(self, policy: RowPolicy) -> PolicySql:
        found = self._policies.get(policy.sql)
        if found is None:
            found = self._policies[policy.sql] = read_policy(policy.sql)
        return found


def _table(name: str, alias: str) -> exp.Table:
    table = exp.to_table(name, dialect=DIALECT)
    table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    return table

"""The gate for SQL that callers write: one SELECT over the semantic datasets, rebuilt from what was understood.

The text itself never reaches the database. It is parsed, every node must be known (:mod:`gate_rules`), every name must
stand for a dataset, one of its dimensions or a name given in the statement (:mod:`gate_scope`); then every dataset is
replaced by a query that computes the dimensions used, under the row policies of the caller, values become typed
literals, and the text is made anew from the tree. sqlglot is lenient, so nothing rests on its refusals: what it made of
the text is allowed, not what it rejected is forbidden. Behind the gate stand a read-only transaction, a time limit and,
where the broker has a role of its own, that role's rights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import sqlglot
from sqlglot import Dialect, exp
from sqlglot.errors import SqlglotError

from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.gate_nodes import check_nodes, check_size, violation
from broker.adapters.sql.gate_rules import GateLimits
from broker.adapters.sql.gate_scope import Names, Resolver, Use
from broker.adapters.sql.shape import principal_value
from broker.adapters.sql.types import cast, quoted, wire
from broker.adapters.sql.values import DIALECT, Places, Value, checked_text, render
from broker.domain.errors import Violation, invalid
from broker.domain.principal import Principal
from broker.domain.query import SqlQuery
from broker.domain.values import Column, DataType, Scalar

_RESULT = "result"


@dataclass(frozen=True, slots=True)
class Gated:
    """A statement that passed: its tree, with places for values, and the values."""

    tree: exp.Expr
    places: Places
    values: tuple[Value, ...]
    scales: Mapping[int, int]

    def text(self) -> str:
        """The statement with its values as literals."""
        return render(self.tree, self.places).literal(self.values)

    def wrapped(self, columns: Sequence[Column], rows: int) -> str:
        """The statement with its columns in wire form and at most so many rows."""
        names = [exp.to_identifier(f"c{i}", quoted=True) for i in range(len(columns))]
        source = exp.Subquery(
            this=self.tree.copy(),
            alias=exp.TableAlias(this=exp.to_identifier(_RESULT, quoted=True), columns=names),
        )
        query = exp.Select().from_(source)
        for i, column in enumerate(columns):
            value = exp.column(f"c{i}", table=_RESULT, quoted=True)
            selected = wire(cast(value, column.type, column.scale), column.type)
            query = query.select(exp.Alias(this=selected, alias=quoted(column.name, i)), copy=False)
        return render(query.limit(rows, copy=False), self.places).literal(self.values)


def exposed(sql: DatasetSql) -> Names:
    """The dimensions that are columns in SQL: all but those behind a one-to-many join, which would repeat rows."""
    return tuple(d.name for d in sql.dataset.dimensions.values() if not sql.multiplies(d.tables))


def check(
    sql: SqlQuery, datasets: Mapping[str, DatasetSql], principal: Principal, limits: GateLimits
) -> Gated:
    """The statement, safe to run for the principal, who may query all of the datasets.

    Raises:
        BrokerError: INVALID_REQUEST with every violation; PERMISSION_DENIED when a row policy needs an attribute that
            the principal lacks.
    """
    try:
        tree = _parse(sql.text, limits)
        found = list(check_nodes(tree, limits))
        _fold_names(tree)
        resolver = Resolver({name: exposed(d) for name, d in datasets.items()})
        resolver.statement(tree)
        found += [*resolver.violations, *_check_parameters(tree, sql.parameters)]
        if not found and not _stable(tree):
            found.append(violation("cannot be read unambiguously; write it more plainly", "SQL_FORM"))
        if found:
            raise invalid(list(dict.fromkeys(found)))
        return _rebuild(tree, sql.parameters, resolver.uses, datasets, principal)
    except RecursionError:
        raise invalid([violation("is nested too deeply", "SQL_SIZE")]) from None


def _parse(text: str, limits: GateLimits) -> exp.Expr:
    checked_text(text, "text")
    if len(text) > limits.characters:
        raise invalid([violation(f"has {len(text)} characters; {limits.characters} are allowed", "SQL_SIZE")])
    try:
        tokens = Dialect.get_or_raise(DIALECT).tokenize(text)
        if problems := list(check_size(tokens, limits)):
            raise invalid(problems)
        parsed = [s for s in sqlglot.parse(text, dialect=DIALECT) if s is not None]
    except (SqlglotError, ValueError) as error:  # its parser turns some odd texts into a bare ValueError
        raise invalid([violation(f"is not SQL{_where(error)}", "SQL_SYNTAX")]) from error
    statements = [s for s in parsed if not isinstance(s, exp.Semicolon)]
    if len(statements) != 1:
        raise invalid([violation(f"holds {len(statements)} statements; give one SELECT", "SQL_STATEMENT")])
    tree = statements[0]
    while isinstance(tree, exp.Subquery) and not any(v for k, v in tree.args.items() if k != "this"):
        tree = tree.this
    if not isinstance(tree, (exp.Select, exp.SetOperation)):
        raise invalid([violation("is not a SELECT; nothing else can be asked", "SQL_STATEMENT")])
    return tree


def _where(error: Exception) -> str:
    details = getattr(error, "errors", None)
    return f": line {details[0]['line']}, column {details[0]['col']}" if details else ""


def _fold_names(tree: exp.Expr) -> None:
    """Names without quotes in lower case, as PostgreSQL reads them; then all are quoted, and none is a keyword."""
    for node in tree.find_all(exp.Identifier):
        if not node.args.get("quoted"):
            node.set("this", node.name.lower())
            node.set("quoted", True)


def _stable(tree: exp.Expr) -> bool:
    """Whether the text made from the tree is read as the same tree again."""
    text = tree.sql(dialect=DIALECT, comments=False)
    try:
        again = sqlglot.parse(text, dialect=DIALECT)
    except SqlglotError:
        return False
    return len(again) == 1 and again[0] is not None and again[0].sql(dialect=DIALECT, comments=False) == text


def _check_parameters(tree: exp.Expr, values: Sequence[Scalar]) -> list[Violation]:
    found, used = [], set()
    for node in tree.find_all(exp.Parameter):
        number = int(node.name) if node.name.isdecimal() else 0
        used.add(number)
        if not 1 <= number <= len(values):
            text = f"the parameter ${node.name} has no value; {len(values)} are given"
            found.append(violation(text, "SQL_PARAMETER", node))
    unused = [i for i in range(len(values)) if i + 1 not in used]
    text = "the statement does not use ${}"
    return found + [Violation(f"parameters[{i}]", text.format(i + 1), "SQL_PARAMETER") for i in unused]


def _rebuild(
    tree: exp.Expr,
    parameters: Sequence[Scalar],
    uses: Sequence[Use],
    datasets: Mapping[str, DatasetSql],
    principal: Principal,
) -> Gated:
    """Puts datasets and places for values in."""
    places, values = Places(), list[Value]()
    nodes = []
    for i, value in enumerate(parameters):
        values.append(checked_text(value, f"parameters[{i}]") if isinstance(value, str) else value)
        nodes.append(places.add(_type_of(value)))
    for node in list(tree.find_all(exp.Parameter)):
        node.replace(nodes[int(node.name) - 1].copy())
    scales = _scales(tree)
    for use in uses:
        alias = use.table.alias or use.dataset
        rows = _rows(datasets[use.dataset], use, principal, places, values)
        name = exp.TableAlias(this=exp.to_identifier(alias, quoted=True))
        use.table.replace(exp.Subquery(this=rows, alias=name))
    return Gated(tree, places, tuple(values), scales)


def _rows(sql: DatasetSql, use: Use, principal: Principal, places: Places, values: list[Value]) -> exp.Select:
    """The rows of a dataset that the principal may see, with the dimensions that are used as columns.

    Where there are policies the caller's own conditions are met after them. PostgreSQL would choose another order where
    that is cheaper, as with a policy over a joined table, and ``1 / (amount - 5)`` would tell of a hidden row with a 5.
    """
    dataset = sql.dataset
    policies = [p for p in dataset.row_policies if not any(principal.has(grant) for grant in p.unless)]
    dimensions = [dataset.dimensions[name] for name in exposed(sql) if name in use.used]
    tables = [d.tables for d in dimensions] + [p.tables for p in policies]
    query = sql.rows(alias for aliases in tables for alias in aliases)
    for dimension in dimensions:
        value = sql.comparable(dimension) if dimension.type is DataType.STRING else sql.dimension(dimension)
        name = exp.to_identifier(dimension.name, quoted=True)
        query = query.select(exp.Alias(this=value, alias=name), copy=False)
    if not dimensions:
        query = query.select(exp.Null(), copy=False)
    for policy in policies:
        values += (principal_value(principal, source, policy) for source in sql.policy_sources(policy))
        query = query.where(sql.policy(policy, places), copy=False)
    return query.offset(0, copy=False) if policies else query  # nothing is moved into a query with an offset


def _type_of(value: Scalar) -> DataType:
    match value:
        case bool():
            return DataType.BOOL
        case int():
            return DataType.INT64
        case float():
            return DataType.DOUBLE
        case Decimal():
            return DataType.DECIMAL
        case str():
            return DataType.STRING
        case datetime():
            return DataType.TIMESTAMP
        case date():
            return DataType.DATE


def _scales(tree: exp.Expr) -> dict[int, int]:
    """Decimal digits of the columns that are cast to a decimal with digits, by position."""
    first = tree
    while isinstance(first, exp.SetOperation | exp.Subquery):
        first = first.this
    found: dict[int, int] = {}
    for i, projection in enumerate(first.expressions):
        node = projection.this if isinstance(projection, exp.Alias) else projection
        if projection.find(exp.Star) and not isinstance(node, exp.Func):
            return found
        if isinstance(node, exp.Cast) and node.to.this is exp.DType.DECIMAL and len(node.to.expressions) == 2:
            found[i] = int(node.to.expressions[1].name)
    return found

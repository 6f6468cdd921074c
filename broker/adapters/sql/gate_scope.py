"""The second half of the gate: every name stands for a dataset, one of its dimensions, or something named before.

PostgreSQL would look a name up in more places than these: a table of the same name, a system column, the whole row, or
a function written as a column. So names are resolved here, completely, and what is left over is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from broker.adapters.sql.gate_nodes import violation
from broker.domain.errors import Violation
from broker.policy.conditions import nearest

Names = tuple[str, ...]
UNNAMED = ""
"""A column that cannot be referred to."""


@dataclass(slots=True)
class Use:
    """A dataset standing in FROM, and the dimensions that are used of it."""

    table: exp.Table
    dataset: str
    used: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Source:
    """What an alias stands for: columns, and the use of a dataset behind them.

    ``unknown`` when it has been refused already; then it is taken to have every column, so that one mistake is told
    once.
    """

    columns: Names
    use: Use | None = None
    unknown: bool = False

    def has(self, name: str) -> bool:
        """Whether the source has such a column."""
        return self.unknown or (name != UNNAMED and name in self.columns)

    def touch(self, name: str) -> None:
        """Notes that a column is used."""
        if self.use is not None:
            self.use.used.add(name)


Scope = Mapping[str, Source]
_NESTED = (exp.Subquery, exp.Select, exp.SetOperation)


class Resolver:
    """Resolves one statement. ``exposed`` has the dimensions of every dataset that the caller may query."""

    def __init__(self, exposed: Mapping[str, Names]) -> None:
        self._exposed = exposed
        self.violations: list[Violation] = []
        self.uses: list[Use] = []

    def statement(self, tree: exp.Expr) -> Names:
        """Resolves the whole statement, which alone may begin with WITH. Returns the names of its columns."""
        named: dict[str, Source] = {}
        clause = tree.args.get("with_")
        for cte in clause.expressions if clause is not None else ():
            name = cte.alias
            if name in self._exposed or name in named:
                self._refuse(f"the name {name!r} in WITH is taken; choose another", cte)
            columns = self._renamed(self._query(cte.this, named, ()), cte)
            named = {**named, name: Source(columns)}
        return self._query(tree, named, (), root=True)

    def _query(self, node: exp.Expr, named: Scope, outer: Sequence[Scope], *, root: bool = False) -> Names:
        if node.args.get("with_") is not None and not root:
            self._refuse("WITH may only stand at the beginning of the statement", node)
        match node:
            case exp.Subquery():
                return self._query(node.this, named, outer, root=root)
            case exp.SetOperation():
                left = self._query(node.this, named, outer)
                self._query(node.expression, named, outer)
                self._clauses(node, {}, left, named, outer, ("order",))
                return left
            case exp.Select():
                return self._select(node, named, outer)
            case _:
                self._refuse("only SELECT can stand here", node)
                return ()

    def _select(self, node: exp.Select, named: Scope, outer: Sequence[Scope]) -> Names:
        scope: dict[str, Source] = {}
        start = node.args.get("from_")
        joins = node.args.get("joins") or []
        for item in [*([start.this] if start is not None else []), *(join.this for join in joins)]:
            alias, source = self._source(item, named, outer)
            if alias in scope:
                self._refuse(f"the name {alias!r} is used twice in FROM; give one an alias", item)
            scope[alias] = source
        for join in joins:
            for name in join.args.get("using") or ():
                self._column(name.name, UNNAMED, [scope], name)
            self._expression(join.args.get("on"), scope, named, outer)
        columns: list[str] = []
        for projection in node.expressions:
            columns += self._projection(projection, scope, named, outer)
        distinct = node.args.get("distinct")
        for part in (node.args.get("where"), node.args.get("having"), distinct):
            self._expression(part, scope, named, outer)
        self._clauses(node, scope, tuple(columns), named, outer, ("group", "order"))
        return tuple(columns)

    def _clauses(
        self,
        node: exp.Expr,
        scope: Scope,
        output: Names,
        named: Scope,
        outer: Sequence[Scope],
        parts: Sequence[str],
    ) -> None:
        """GROUP BY and ORDER BY, which see the names of the output as well."""
        own = {UNNAMED: Source(output), **scope}
        for part in parts:
            self._expression(node.args.get(part), own, named, outer)

    def _source(self, item: exp.Expr, named: Scope, outer: Sequence[Scope]) -> tuple[str, Source]:
        alias = item.alias
        if isinstance(item, exp.Subquery):
            if not alias:
                self._refuse("a query in FROM needs an alias", item)
            return alias, Source(self._renamed(self._query(item.this, named, outer), item))
        if not isinstance(item, exp.Table) or not isinstance(item.this, exp.Identifier):
            self._refuse("only datasets and queries can stand in FROM", item)
            return alias, Source((), unknown=True)
        name = item.name
        if item.args.get("db") is None:
            if name in named:
                return alias or name, Source(self._renamed(named[name].columns, item))
            if name in self._exposed:
                use = Use(item, name)
                self.uses.append(use)
                if (item.args.get("alias") or exp.TableAlias()).args.get("columns"):
                    self._refuse("columns of a dataset are renamed in SELECT, not in FROM", item)
                return alias or name, Source(self._exposed[name], use)
        text = (
            f"there is no dataset {item.sql('postgres', identify=False)}{nearest(name, list(self._exposed))}"
        )
        self.violations.append(violation(text, "SQL_TABLE", item))
        return alias or name, Source((), unknown=True)

    def _renamed(self, columns: Names, node: exp.Expr) -> Names:
        given = [c.name for c in (node.args.get("alias") or exp.TableAlias()).args.get("columns") or ()]
        if len(given) > len(columns):
            self._refuse(f"{len(given)} names are given to {len(columns)} columns", node)
        return (*given, *columns[len(given) :])

    def _projection(
        self, node: exp.Expr, scope: Scope, named: Scope, outer: Sequence[Scope]
    ) -> Sequence[str]:
        if isinstance(node, exp.Star):
            return [name for source in scope.values() for name in self._all(source)]
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            if node.table not in scope:
                self._refuse(f"{node.table!r} is not in FROM", node)
                return ()
            return self._all(scope[node.table])
        self._expression(node, scope, named, outer)
        return [
            node.alias
            if isinstance(node, exp.Alias)
            else node.name
            if isinstance(node, exp.Column)
            else UNNAMED
        ]

    @staticmethod
    def _all(source: Source) -> Names:
        for name in source.columns:
            source.touch(name)
        return source.columns

    def _expression(self, node: exp.Expr | None, scope: Scope, named: Scope, outer: Sequence[Scope]) -> None:
        """Resolves every column of an expression; queries inside it see the scope as their outer one."""
        if node is None:
            return
        if isinstance(node, _NESTED):
            self._query(node, named, (scope, *outer))
            return
        if isinstance(node, exp.Column):
            if isinstance(node.this, exp.Star):
                self._refuse("* stands alone in SELECT, or in COUNT(*)", node)
            else:
                self._column(node.name, node.table, (scope, *outer), node)
            return
        if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
            self._refuse("* stands alone in SELECT, or in COUNT(*)", node)
        for child in node.iter_expressions():
            self._expression(child, scope, named, outer)

    def _column(self, name: str, table: str, scopes: Sequence[Scope], node: exp.Expr) -> None:
        for scope in scopes:
            found = [source for alias, source in scope.items() if table in ("", alias) and source.has(name)]
            if found:
                for source in found:
                    source.touch(name)
                return
        known = [
            c
            for s in scopes
            for alias, source in s.items()
            if table in ("", alias)
            for c in source.columns
            if c
        ]
        where = f" of {table!r}" if table else ""
        text = f"there is no column {name!r}{where}{nearest(name, list(dict.fromkeys(known)))}"
        self.violations.append(violation(text, "SQL_COLUMN", node))

    def _refuse(self, text: str, node: exp.Expr) -> None:
        self.violations.append(violation(text, "SQL_NAME", node))

"""Filter trees: protobuf to domain, within limits of depth and size."""

from __future__ import annotations

from broker.domain.errors import Violation
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.transport.decode_values import Found, required_choice, required_name, scalar
from broker.transport.enums import OPERATOR
from querybroker.v1 import query_pb2

MAX_DEPTH = 32
MAX_CONDITIONS = 1_000
MAX_VALUES = 10_000
REQUEST_FACTOR = 4
"""All filters of a request together may have so many times as much, since decoding holds up the event loop."""
_NOTHING = AllOf(())
_ARITY = {
    Operator.IS_NULL: (0, 0, "takes no value"),
    Operator.IS_NOT_NULL: (0, 0, "takes no value"),
    Operator.BETWEEN: (2, 2, "takes two values, the first included, the second not"),
    Operator.IN: (1, MAX_VALUES, "takes one value or more"),
    Operator.NOT_IN: (1, MAX_VALUES, "takes one value or more"),
}
_ONE = (1, 1, "takes one value")


class Budget:
    """Conditions and values so far, of one filter or of all filters of a request; ``what`` says which."""

    __slots__ = ("conditions", "max_conditions", "max_values", "values", "what")

    def __init__(self, what: str, factor: int = 1) -> None:
        self.what = what
        self.max_conditions, self.max_values = MAX_CONDITIONS * factor, MAX_VALUES * factor
        self.conditions = self.values = 0

    @property
    def spent(self) -> bool:
        """Whether a limit has been passed."""
        return self.conditions > self.max_conditions or self.values > self.max_values

    def add(self, values: int) -> str:
        """Counts a condition with its values; says what is wrong when this one passes a limit."""
        before, self.conditions, self.values = self.spent, self.conditions + 1, self.values + values
        if before or not self.spent:
            return ""
        if self.conditions > self.max_conditions:
            return f"{self.what} more than {self.max_conditions} conditions; use FILTER_OPERATOR_IN for lists"
        return f"{self.what} more than {self.max_values} values; narrow it, or join a table that holds them"


def request_budget() -> Budget:
    """What all filters of one request may have."""
    return Budget("with the filters before it has", REQUEST_FACTOR)


def decode_filter(
    message: query_pb2.Filter, path: str, found: Found, request: Budget | None = None
) -> Filter:
    """The tree below ``message``.

    Depth counts nodes from the root to a leaf; conditions and values are counted over the whole tree, and over the
    whole request when there are other filters in it.
    """
    budgets = (Budget("has"),) if request is None else (Budget("has"), request)
    return _Walk(path, found, budgets).node(message, path, 1)


class _Walk:
    """One pass over one tree."""

    __slots__ = ("budgets", "found", "root")

    def __init__(self, root: str, found: Found, budgets: tuple[Budget, ...]) -> None:
        self.root = root
        self.found = found
        self.budgets = budgets

    @property
    def spent(self) -> bool:
        return any(budget.spent for budget in self.budgets)

    def node(self, message: query_pb2.Filter, path: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            text = f"lies deeper than {MAX_DEPTH} levels; flatten the groups"
            self.found.append(Violation(path, text, "TOO_DEEP"))
            return _NOTHING
        match message.WhichOneof("node"):
            case "all_of":
                return AllOf(self.children(message.all_of, f"{path}.all_of", depth))
            case "any_of":
                return AnyOf(self.children(message.any_of, f"{path}.any_of", depth))
            case "not_filter":
                return Not(self.node(message.not_filter, f"{path}.not_filter", depth + 1))
            case "condition":
                return self.condition(message.condition, f"{path}.condition")
            case _:
                text = "is empty; set all_of, any_of, not_filter or condition"
                self.found.append(Violation(path, text, "REQUIRED"))
                return _NOTHING

    def children(self, group: query_pb2.FilterGroup, path: str, depth: int) -> tuple[Filter, ...]:
        nodes = []
        for i, child in enumerate(group.filters):
            if self.spent:
                break  # one violation says so; naming what follows would only grow the error
            nodes.append(self.node(child, f"{path}.filters[{i}]", depth + 1))
        return tuple(nodes)

    def condition(self, message: query_pb2.Condition, path: str) -> Filter:
        for budget in self.budgets:
            if problem := budget.add(len(message.values)):
                self.found.append(Violation(self.root, problem, "TOO_MANY"))
        if self.spent:
            return _NOTHING
        member = required_name(message.member, f"{path}.member", self.found)
        known = len(self.found)
        operator = required_choice(OPERATOR, message.operator, f"{path}.operator", self.found, Operator.EQ)
        if len(self.found) == known:
            self.arity(operator, len(message.values), path)
        values = tuple(scalar(v, f"{path}.values[{i}]", self.found) for i, v in enumerate(message.values))
        return Condition(member, operator, values)

    def arity(self, operator: Operator, given: int, path: str) -> None:
        least, most, rule = _ARITY.get(operator, _ONE)
        if not least <= given <= most:
            name = f"FILTER_OPERATOR_{operator.name}"
            text = f"{name} {rule}, and {given} {'is' if given == 1 else 'are'} given"
            self.found.append(Violation(f"{path}.values", text, "ARITY"))

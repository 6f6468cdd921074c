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
_NOTHING = AllOf(())
_ARITY = {
    Operator.IS_NULL: (0, 0, "takes no value"),
    Operator.IS_NOT_NULL: (0, 0, "takes no value"),
    Operator.BETWEEN: (2, 2, "takes two values, the first included, the second not"),
    Operator.IN: (1, MAX_VALUES, "takes one value or more"),
    Operator.NOT_IN: (1, MAX_VALUES, "takes one value or more"),
}
_ONE = (1, 1, "takes one value")


def decode_filter(message: query_pb2.Filter, path: str, found: Found) -> Filter:
    """The tree below ``message``.

    Depth counts nodes from the root to a leaf; conditions and values are counted over the whole tree.
    """
    walk = _Walk(path, found)
    return walk.node(message, path, 1)


class _Walk:
    """One pass over one tree, with the counts so far."""

    __slots__ = ("conditions", "found", "root", "values")

    def __init__(self, root: str, found: Found) -> None:
        self.root = root
        self.found = found
        self.conditions = 0
        self.values = 0

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
            if self.conditions > MAX_CONDITIONS or self.values > MAX_VALUES:
                break  # one violation says so; naming what follows would only grow the error
            nodes.append(self.node(child, f"{path}.filters[{i}]", depth + 1))
        return tuple(nodes)

    def condition(self, message: query_pb2.Condition, path: str) -> Filter:
        self.conditions += 1
        if self.conditions == MAX_CONDITIONS + 1:
            text = f"has more than {MAX_CONDITIONS} conditions; use FILTER_OPERATOR_IN for lists of values"
            self.found.append(Violation(self.root, text, "TOO_MANY"))
        if self.conditions > MAX_CONDITIONS or self.too_many_values(len(message.values)):
            return _NOTHING
        member = required_name(message.member, f"{path}.member", self.found)
        known = len(self.found)
        operator = required_choice(OPERATOR, message.operator, f"{path}.operator", self.found, Operator.EQ)
        if len(self.found) == known:
            self.arity(operator, len(message.values), path)
        values = tuple(scalar(v, f"{path}.values[{i}]", self.found) for i, v in enumerate(message.values))
        return Condition(member, operator, values)

    def too_many_values(self, more: int) -> bool:
        before = self.values
        self.values += more
        if before <= MAX_VALUES < self.values:
            text = f"has more than {MAX_VALUES} values; narrow it, or join a table that holds them"
            self.found.append(Violation(self.root, text, "TOO_MANY"))
        return self.values > MAX_VALUES

    def arity(self, operator: Operator, given: int, path: str) -> None:
        least, most, rule = _ARITY.get(operator, _ONE)
        if not least <= given <= most:
            name = f"FILTER_OPERATOR_{operator.name}"
            text = f"{name} {rule}, and {given} {'is' if given == 1 else 'are'} given"
            self.found.append(Violation(f"{path}.values", text, "ARITY"))

"""Makes mutants of a module: its syntax tree with one small mistake in it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "bisect_left": "bisect_right",
         "bisect_right": "bisect_left"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one mistake: the line, the code there before and after, and the whole tree."""

    line: int
    before: str
    after: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, from top to bottom; annotations, docstrings, texts and settings stay as they are."""
    tree = ast.parse(source)
    for index, node in enumerate(_places(tree)):
        for variant in range(len(_variants(node))):
            mutated = copy.deepcopy(tree)
            place = _places(mutated)[index]
            before = ast.unparse(place)
            _variants(place)[variant]()
            after = ast.unparse(place)
            if before != after:
                yield Mutant(getattr(place, "lineno", 0), before, after, ast.fix_missing_locations(mutated))


def _places(tree: ast.Module) -> list[ast.AST]:
    """The nodes that may be changed, in order; what is only read by people and type checkers is left out."""
    found: list[ast.AST] = []

    def visit(node: ast.AST) -> None:
        found.append(node)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "bases"}:
                continue
            if isinstance(node, ast.Assign) and name == "value" and _is_setting(node):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_text(child):
                    visit(child)

    visit(tree)
    return found


def _is_setting(node: ast.Assign) -> bool:
    """Whether it is ``__slots__``, or a NAME in capitals: tests know those by name, the simulator tunes them."""
    names = [target.id for target in ast.walk(node) if isinstance(target, ast.Name)]
    return bool(names) and (names[0] == "__slots__" or names[0].isupper())


def _is_text(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Expr) else node
    return isinstance(value, ast.JoinedStr) or (
        isinstance(value, ast.Constant) and isinstance(value.value, str)
    )


Change = Callable[[], object]


def _variants(node: ast.AST) -> list[Change]:
    """What can be done to a node, as functions that do it."""
    match node:
        case ast.Compare(ops=ops):
            return [partial(ops.__setitem__, at, COMPARISONS[type(op)]()) for at, op in enumerate(ops)]
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            return [partial(setattr, node, "op", OPERATORS[type(op)]())]
        case ast.If() | ast.IfExp() | ast.While() | ast.BoolOp() | ast.UnaryOp():
            return _logic(node)
        case ast.Constant(value=bool() | int() | float() as value):
            other = not value if isinstance(value, bool) else value + 1
            return [partial(setattr, node, "value", other)]
        case ast.Name(id=name) if name in NAMES:
            return [partial(setattr, node, "id", NAMES[name])]
        case ast.Break() | ast.Continue():
            return [
                partial(
                    setattr, node, "__class__", ast.Continue if isinstance(node, ast.Break) else ast.Break
                )
            ]
        case ast.Expr(value=ast.Call()):
            return [partial(setattr, node, "value", ast.Constant(None))]
        case _:
            return []


def _logic(node: ast.If | ast.IfExp | ast.While | ast.BoolOp | ast.UnaryOp) -> list[Change]:
    """The same for conditions and what they are made of."""
    match node:
        case ast.BoolOp(op=op):
            return [partial(setattr, node, "op", ast.Or() if isinstance(op, ast.And) else ast.And())]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return [partial(setattr, node, "operand", ast.UnaryOp(ast.Not(), operand))]
        case ast.UnaryOp(op=op):
            return [partial(setattr, node, "op", ast.UAdd())] if isinstance(op, ast.USub) else []
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if isinstance(test, ast.Compare) and isinstance(
                test.ops[0], ast.Is | ast.IsNot | ast.Eq | ast.In
            ):
                return []  # turning the comparison does the same
            return [partial(setattr, node, "test", ast.UnaryOp(ast.Not(), test))]

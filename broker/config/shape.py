"""Checks the shape of the data against the schema, and keeps what is right so that later checks can go on.

pydantic reports everything at once, but yields nothing when anything is wrong. So the wrong parts are taken out, with
the smallest entry that can stand without them, and the rest is read again. Members that were taken out are remembered:
a ratio whose operand has its own error is not reported a second time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from broker.config.document import Path, show_path
from broker.config.findings import Finding
from broker.config.overlay import Layers
from broker.config.schema import Config
from broker.config.units import show_duration, show_size
from broker.config.walk import section_of, walk
from broker.domain.values import DataType
from broker.policy.conditions import nearest

_STAND_IN = "missing"
_SECRETS = frozenset({"dsn", "replicas", "hashes", "shared"})
_FORMS = {
    "^sha256:": "`sha256:` and the 64 hexadecimal digits of the key's hash, never the key itself",
    "^(s3://": "the address of a bucket, as s3://bucket/prefix",
    "^((tcp": "an address, as tcp://host:8786",
    "^[A-Za-z_]": "a class in a module, as module:Name",
    r"^[\w.:-]*": "letters, digits, underscores, dots, colons and hyphens",
}
"""What a text has to be, by the beginning of the pattern that it does not match."""
_OTHER_TYPE_NAMES = {
    "int": DataType.INT64, "integer": DataType.INT64, "bigint": DataType.INT64, "smallint": DataType.INT64,
    "float": DataType.DOUBLE, "float8": DataType.DOUBLE, "real": DataType.DOUBLE, "number": DataType.DOUBLE,
    "numeric": DataType.DECIMAL, "boolean": DataType.BOOL,
    "text": DataType.STRING, "varchar": DataType.STRING, "str": DataType.STRING,
    "timestamptz": DataType.TIMESTAMP, "datetime": DataType.TIMESTAMP, "time": DataType.TIMESTAMP,
}  # fmt: skip
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text; put it in quotes if it looks like a number",
    "dict": "a mapping",
    "model": "a mapping",
    "list": "a list",
}


class Removed:
    """The parts that were taken out: each has its own error already."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def add(self, path: Path) -> None:
        """Remember a part."""
        self._paths.add(path)

    def children(self, path: Path) -> frozenset[str]:
        """The keys directly below the path at or below which something was taken out."""
        deep = [part for part in self._paths if len(part) > len(path) and part[: len(path)] == path]
        return frozenset(str(part[len(path)]) for part in deep)

    def within(self, path: Path) -> bool:
        """Whether something was taken out at or below the path."""
        return any(part[: len(path)] == path for part in self._paths)

    def may_hold(self, path: Path) -> bool:
        """Whether the path may have been there before parts were taken out."""
        return any(path[: len(part)] == part for part in self._paths)


def read_shape(layers: Layers) -> tuple[Config, Removed, list[Finding]]:
    """The configuration without its wrong parts, what was taken out, and a finding for everything wrong."""
    data = copy.deepcopy(layers.data)
    removed = Removed()
    findings: list[Finding] = []
    first = True
    while True:
        try:
            return Config.model_validate(data), removed, findings
        except ValidationError as error:
            details = error.errors(include_url=False)
        if first:
            findings, first = [_finding(layers, detail) for detail in details], False
        # Positions in lists shift when an entry goes: the last ones first.
        for detail in sorted(details, key=_position, reverse=True):
            path = _path(detail)
            removed.add(path)
            holder = _holder(data, path)
            if detail["type"] != "missing":
                _remove(data, path)
            elif walk(Config, path) is str and isinstance(holder, dict):
                holder[path[-1]] = _STAND_IN
            else:
                removed.add(path[:-1])
                _remove(data, path[:-1])


def _position(detail: ErrorDetails) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in detail["loc"]]


def _path(detail: ErrorDetails) -> Path:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _holder(data: dict[str, object], path: Path) -> object:
    """What holds the entry at the path; None when that is gone already."""
    current: Any = data
    with suppress(KeyError, IndexError, TypeError):
        for part in path[:-1]:
            current = current[part]
        return current
    return None


def _remove(data: dict[str, object], path: Path) -> None:
    """Takes an entry out; one that went with another before it is not missed."""
    holder = _holder(data, path)
    if isinstance(holder, dict):
        holder.pop(path[-1], None)
    elif isinstance(holder, list) and isinstance(path[-1], int) and path[-1] < len(holder):
        del holder[path[-1]]
    elif holder is not None and not isinstance(holder, list):
        _remove(data, path[:-1])  # the entry was spelt out from a text that stands for its whole holder


def _finding(layers: Layers, detail: ErrorDetails) -> Finding:
    path, kind = _path(detail), detail["type"]
    if kind == "missing":
        section = section_of(walk(Config, path[:-1]))
        assert section is not None
        meaning = (section.model_fields[str(path[-1])].description or "").partition(". ")[0].rstrip(".")
        return layers.finding(path, f"is missing ({' '.join(meaning.split())})", at_key=True)
    if kind == "extra_forbidden":
        section = section_of(walk(Config, path[:-1]))
        keys = list(section.model_fields) if section is not None else []
        where = show_path(path[:-1]) or "the configuration"
        return layers.finding(
            path, f"{where} has no key {path[-1]!r}{nearest(str(path[-1]), keys)}", at_key=True
        )
    shown = "" if _SECRETS & set(path) else f", and is {_show(detail['input'])}"
    return layers.finding(path, _message(detail, shown), at_key="[key]" in detail["loc"])


def _message(detail: ErrorDetails, shown: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "enum":
        return _not_one_of(detail["input"], context)
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        wanted = next(
            (form for begin, form in _FORMS.items() if pattern.startswith(begin)), f"like {pattern}"
        )
        return f"must be {wanted}{shown}"
    for end, word in (
        ("greater_than_equal", "at least"), ("greater_than", "more than"),
        ("less_than_equal", "at most"), ("less_than", "less than"),
    ):  # fmt: skip
        if kind == end:
            return f"must be {word} {_limit(next(iter(context.values())), detail['input'])}{shown}"
    if kind in ("string_too_short", "too_short"):
        return "must not be empty"
    base = kind.partition("_")[0]
    if base in _EXPECTED:
        return f"must be {_EXPECTED[base]}{shown}"
    message = detail["msg"]
    return message if not shown else f"{message}{shown}"


def _limit(limit: float, given: object) -> str:
    """A limit in the kind of unit that the value was given in."""
    if isinstance(given, str) and given.strip()[-1:].isalpha():
        return show_size(limit) if given.strip().endswith("B") else show_duration(limit)
    return f"{int(limit) if limit == int(limit) else limit:,}"


def _not_one_of(given: object, context: Mapping[str, object]) -> str:
    choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
    name = str(given).lower()
    close = get_close_matches(name, choices, n=1)
    if name in _OTHER_TYPE_NAMES and _OTHER_TYPE_NAMES[name] in choices:
        close = [_OTHER_TYPE_NAMES[name].value]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{_show(given)} is not one of {', '.join(choices)}{hint}"


def _show(value: object) -> str:
    text = repr(value)
    if "://" in text:
        return "an address"  # which may hold a password
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "empty"
    return text if len(text) <= 60 else f"{text[:57]}…"

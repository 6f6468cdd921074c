"""Reads YAML into plain data that knows where each part of it was written.

Scalars follow the core schema of YAML 1.2, so ``on``, ``no`` and ``12:30`` are text. In text, ``${NAME}`` and
``${NAME:-default}`` are replaced by environment variables; ``$${`` stands for ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import yaml

from broker.config.findings import Finding

Path = tuple[str | int, ...]
"""Place in the configuration: keys of mappings and positions in lists."""

_VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\$\{)")
_MAX_NODES = 200_000


class _Loader(yaml.SafeLoader):
    """Resolves scalars by the core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way to start from none; filled below, then only read


_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_TAGS = frozenset(f"tag:yaml.org,2002:{tag}" for tag in ("map", "seq", "str", "null", "bool", "int", "float"))


@dataclass(slots=True)
class Document:
    """Data of a file. ``keys`` and ``values`` hold line and column, from 1, of each key and each value."""

    source: str
    data: dict[str, object] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)


def read_document(text: str, source: str, env: Mapping[str, str]) -> tuple[Document, list[Finding]]:
    """The data of a YAML text, and everything that is wrong with its form."""
    document = Document(source)
    reader = _Reader(document, env)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        if line and "${" in "".join(text.splitlines()[line - 1 : line]):
            said += "; inside brackets a text with ${…} needs quotes"
        return document, [Finding(f"this is not YAML: {said}", source=source, line=line, column=column)]
    except yaml.YAMLError as error:
        return document, [Finding(f"this is not YAML: {error}", source=source)]
    if node is not None:
        data = reader.read(node, ())
        if isinstance(data, dict):
            document.data = data
        elif data is not None:
            reader.report("must be a mapping of sections such as `database:` and `datasets:`", (), node)
    return document, reader.findings


def parse_value(text: str) -> object:
    """The value of a YAML text without positions, for environment variables that hold lists and mappings.

    Raises:
        ValueError: The text is not YAML, or its form is not accepted in a configuration.
    """
    document, findings = read_document(f"value: {text}", "", {})
    if findings:
        raise ValueError(findings[0].message)
    return document.data.get("value")


class _Reader:
    """Turns nodes into data, noting positions and what is wrong."""

    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self.findings: list[Finding] = []
        self._document = document
        self._env = env
        self._open: list[yaml.Node] = []
        self._nodes = 0

    def report(self, message: str, path: Path, node: yaml.Node) -> None:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.findings.append(Finding(message, show_path(path), self._document.source, *place))

    def read(self, node: yaml.Node, path: Path) -> object:
        self._document.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._nodes += 1
        if any(node is outer for outer in self._open) or self._nodes > _MAX_NODES:
            problem = "an alias leads back to itself, or the file grows too large through aliases"
            # The node is where its anchor is; the alias stands after its key.
            place = self._document.keys.get(path, (node.start_mark.line + 1, node.start_mark.column + 1))
            self.findings.append(Finding(problem, show_path(path), self._document.source, *place))
            return None
        if node.tag not in _TAGS:
            self.report(f"the tag {node.tag} is not known; remove it", path, node)
            return None
        self._open.append(node)
        try:
            match node:
                case yaml.MappingNode():
                    return self._mapping(node, path)
                case yaml.SequenceNode():
                    return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
                case _:
                    return self._scalar(node, path)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                self.report("a key is a plain text", path, key)
                continue
            name = str(key.value)
            inner = (*path, name)
            if name in found:
                first = self._document.keys[inner][0]
                self.report(f"is given twice, first in line {first}; keep one", inner, key)
                continue
            self._document.keys[inner] = (key.start_mark.line + 1, key.start_mark.column + 1)
            found[name] = self.read(value, inner)
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> object:
        text, kind = str(node.value), node.tag.rpartition(":")[2]
        if kind == "str":
            return self._interpolate(text, path, node)
        try:
            return _convert(text, kind)
        except ValueError:  # only with a tag that was written out
            self.report(f"is tagged as {kind} and is not; remove the tag", path, node)
            return None

    def _interpolate(self, text: str, path: Path, node: yaml.Node) -> str:
        def replace(match: re.Match[str]) -> str:
            escaped, name, default, broken = match.groups()
            if escaped:
                return "${"
            if broken:
                grammar = "`${` begins a variable, as in ${NAME} or ${NAME:-default}; write `$${` for itself"
                self.report(grammar, path, node)
                return ""
            value = self._env.get(name)
            if not value and default is not None:
                value = default
            if value is None:
                close = get_close_matches(name, self._env, n=1)
                hint = f" (but {close[0]} is)" if close else ""
                advice = f"set it, or give a default: ${{{name}:-…}}"
                self.report(f"the environment variable {name} is not set{hint}; {advice}", path, node)
            return value or ""

        return _VARIABLE.sub(replace, text)


def _convert(text: str, kind: str) -> object:
    match kind:
        case "null":
            return None
        case "bool":
            return {"true": True, "false": False}.get(text.lower())
        case "int":
            return int(text, 0) if text[:1] == "0" and text[1:2].isalpha() else int(text)
        case _:
            return float(text)


def show_path(path: Path) -> str:
    """A path as text: ``datasets.flights.grants[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text

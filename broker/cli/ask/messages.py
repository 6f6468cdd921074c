"""Data of a YAML or JSON file, or of options, laid into a protobuf message; everything wrong is found at once.

Keys are the field names of the contract, in snake or camel case. Beyond protobuf's own JSON mapping, names of enum
values may be short (``grain: day``), and the shorthands of `broker.cli.ask.shorthand` stand for whole messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from broker.cli.ask.literals import shown
from broker.cli.ask.problems import QuestionError, UnreadableError, did_you_mean
from broker.cli.ask.shorthand import ALIASES, expand

_DIGITS = re.compile(r"-?\d+")
_KINDS: Mapping[int, tuple[tuple[type, ...], str]] = {
    FieldDescriptor.CPPTYPE_STRING: ((str,), "a text; put it in quotes if it looks like a number"),
    FieldDescriptor.CPPTYPE_BOOL: ((bool,), "true or false"),
    FieldDescriptor.CPPTYPE_INT32: ((int,), "a whole number"),
    FieldDescriptor.CPPTYPE_INT64: ((int,), "a whole number"),
    FieldDescriptor.CPPTYPE_DOUBLE: ((int, float), "a number"),
}


def fill(message: Message, data: Mapping[str, object]) -> None:
    """Lays ``data`` into ``message``. Raises `QuestionError` naming every problem with its place."""
    problems: list[tuple[str, str]] = []
    _fill(message, data, "", problems)
    if problems:
        raise QuestionError(problems)


def _fill(message: Message, data: Mapping[str, object], path: str, problems: list[tuple[str, str]]) -> None:
    fields: dict[str, Any] = {
        name: f for f in message.DESCRIPTOR.fields for name in (f.name, f.camelcase_name)
    }
    aliases = ALIASES.get(message.DESCRIPTOR.full_name, {})
    for key, given in data.items():
        if given is None:
            continue
        place = f"{path}.{key}" if path else str(key)
        *outer, name = aliases.get(key, key).split(".")
        if outer:
            inner: Message = getattr(message, outer[0])
            inner_fields: dict[str, Any] = dict(inner.DESCRIPTOR.fields_by_name)
            _put(inner, inner_fields[name], given, place, problems)
        elif name not in fields:
            known = [*(f.name for f in message.DESCRIPTOR.fields), *aliases]
            problems.append((place, f"is no key here{did_you_mean(str(key), known)}"))
        else:
            _put(message, fields[name], given, place, problems)


def _put(
    message: Message, field: FieldDescriptor, given: object, path: str, problems: list[tuple[str, str]]
) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _put_map(getattr(message, field.name), given, path, problems)
    elif field.is_repeated:
        target = getattr(message, field.name)
        for i, item in enumerate(_items(field, given)):
            if field.message_type is not None:
                _put_message(target.add(), item, f"{path}[{i}]", problems)
            elif (value := _scalar(field, item, f"{path}[{i}]", problems)) is not None:
                target.append(value)
    elif field.message_type is not None:
        _put_message(getattr(message, field.name), given, path, problems)
    elif (value := _scalar(field, given, path, problems)) is not None:
        setattr(message, field.name, value)


def _items(field: FieldDescriptor, given: object) -> list[Any]:
    """The entries of a list; text stands for a list with commas, anything else for its only entry."""
    if isinstance(given, list):
        return given
    plain = field.message_type is None or field.message_type.name == "OrderKey"
    if isinstance(given, str) and plain:
        return [part.strip() for part in given.split(",") if part.strip()]
    return [given]


def _put_message(target: Message, given: object, path: str, problems: list[tuple[str, str]]) -> None:
    try:
        known = expand(target.DESCRIPTOR.full_name, given)
    except UnreadableError as wrong:
        problems.append((path, str(wrong)))
        return
    if isinstance(known, Message):
        target.CopyFrom(known)
        target.SetInParent()
    elif not isinstance(known, Mapping):
        problems.append((path, f"must be a mapping, not {shown(given)}"))
    elif isinstance(target, Struct):
        json_format.ParseDict(dict(known), target)
    else:
        target.SetInParent()
        _fill(target, known, path, problems)


def _put_map(target: Any, given: object, path: str, problems: list[tuple[str, str]]) -> None:
    if not isinstance(given, Mapping):
        problems.append((path, f"must be a mapping, not {shown(given)}"))
        return
    for key, value in given.items():
        target[str(key)] = str(value)


def _scalar(field: FieldDescriptor, given: object, path: str, problems: list[tuple[str, str]]) -> Any:
    """The value for the field; None after a problem."""
    if field.enum_type is not None:
        return _enum(field.enum_type, given, path, problems)
    types, expected = _KINDS[field.cpp_type]
    if (
        isinstance(given, str)
        and field.cpp_type == FieldDescriptor.CPPTYPE_INT64
        and _DIGITS.fullmatch(given)
    ):
        given = int(given)  # protobuf's JSON writes them so
    if not isinstance(given, types) or (isinstance(given, bool) and bool not in types):
        problems.append((path, f"must be {expected}, not {shown(given)}"))
        return None
    if int in types and isinstance(given, int):
        bits = 32 if field.cpp_type == FieldDescriptor.CPPTYPE_INT32 else 64
        if not -(1 << bits - 1) <= given < 1 << bits - 1:
            problems.append((path, f"{given} does not fit into {bits} bits"))
            return None
    return given


def _enum(enum: EnumDescriptor, given: object, path: str, problems: list[tuple[str, str]]) -> int | None:
    """The number of an enum value, by its whole name or what follows the name of the enum in it."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    text = str(given).strip().upper().replace("-", "_").replace(" ", "_")
    value = enum.values_by_name.get(text) or enum.values_by_name.get(prefix + text)
    if value is None:
        short = [v.name.removeprefix(prefix).lower() for v in enum.values[1:]]
        problems.append((path, f"{given!r} is not known{did_you_mean(str(given).lower(), short)}"))
        return None
    return int(value.number)

"""What all parts of the schema share: closed sections, and names."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TENANT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A mapping with known keys.

    A key without a value counts as absent, so a section may be all comments. Where a section has defaults of its own in
    the section that holds it, what is given is laid over those, key by key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, data: object) -> object:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        given = _filled_in(cls, data)
        for key, field in cls.model_fields.items():
            if isinstance(field.default, Section) and isinstance(given.get(key), dict):
                preset = field.default.model_dump(exclude_unset=True)
                given[key] = preset | _filled_in(type(field.default), given[key])
        return given


def _filled_in(section: type[Section], data: dict[str, Any]) -> dict[str, Any]:
    """The entries with a value, and those that are not known, which are to be reported."""
    return {key: value for key, value in data.items() if value is not None or key not in section.model_fields}


def _none_required(schema: JsonDict) -> None:
    schema.pop("required", None)


PRESET = ConfigDict(json_schema_extra=_none_required)
"""For sections whose defaults differ from place to place: every key may be left out everywhere."""


def or_text(key: str) -> ConfigDict:
    """Tells the JSON schema that a text may stand for the whole mapping."""

    def allow(schema: JsonDict) -> None:
        properties = schema["properties"]
        assert isinstance(properties, dict)
        closed: JsonDict = {
            k: schema.pop(k)
            for k in ("type", "properties", "required", "additionalProperties")
            if k in schema
        }
        schema["anyOf"] = [closed, properties[key]]

    return ConfigDict(json_schema_extra=allow)


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise PydanticCustomError(
            "name", "a name has 1 to 63 lower-case letters, digits and underscores, and begins with a letter"
        )
    if "__" in value:
        raise PydanticCustomError(
            "name", "a name has no two underscores in a row, they mark calculated columns"
        )
    return value


def _check_tenant(value: str) -> str:
    if not _TENANT.fullmatch(value):
        raise PydanticCustomError(
            "tenant",
            "a tenant has 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end",
        )
    return value


Name = Annotated[
    str,
    AfterValidator(_check_name),
    WithJsonSchema({"type": "string", "pattern": r"^[a-z](?!.*__)[a-z0-9_]{0,62}$"}),
]
"""Name of a dataset, a member, a join, a policy or a key."""

TenantName = Annotated[
    str, AfterValidator(_check_tenant), WithJsonSchema({"type": "string", "pattern": f"^{_TENANT.pattern}$"})
]
"""Name of a tenant; it is part of resource names, so it looks like a host name."""

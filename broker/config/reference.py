"""The reference of the configuration, generated from the schema: a page for people, a JSON schema for editors.

``python -m broker.config.reference`` writes both into ``docs/``; a test compares them with the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import get_args, get_origin

from pydantic.fields import FieldInfo

from broker.config.base import Section
from broker.config.machine import Machine
from broker.config.overlay import PREFIX, WELL_KNOWN
from broker.config.pools import connections_of, seats_of, workers_of
from broker.config.reference_types import default_of, meaning, table, type_of
from broker.config.schema import Config
from broker.config.schema_data import (
    DatasetConfig,
    DimensionConfig,
    JoinConfig,
    MeasureConfig,
    RowPolicyConfig,
)
from broker.config.schema_pools import PoolsConfig, SharingPoolConfig
from broker.config.schema_rollups import RollupConfig
from broker.config.walk import section_of, unwrap
from broker.domain.pool import PoolName

_MACHINES = (2, 8, 32)
_KEY = "KEY"
_MEMBERS = (
    ("datasets.NAME", DatasetConfig),
    ("datasets.NAME.joins.NAME", JoinConfig),
    ("datasets.NAME.dimensions.NAME", DimensionConfig),
    ("datasets.NAME.measures.NAME", MeasureConfig),
    ("datasets.NAME.row_policies.NAME", RowPolicyConfig),
    ("datasets.NAME.rollups.NAME", RollupConfig),
)
_INTRODUCTION = """\
# Configuration

Generated from the schema by `python -m broker.config.reference`; do not edit.

A broker is configured by one YAML file, which is read once at start. `broker init` proposes one for your database, and
`broker check-config` reports everything that is wrong with one, each error with its line. `broker/demo/flights.yaml` is
an example of a model. Editors complete and check the file with the JSON schema `docs/querybroker.schema.json`.

**Layers.** Later ones win: the defaults below; {well_known}
where the file is silent; the file; variables `{prefix}…`; options of the command line. The variable of a key is its
path in capitals, joined by two underscores: `server.port` is `{prefix}SERVER__PORT`. Lists and mappings are given
as YAML, such as `{prefix}SERVER__SQL__FUNCTIONS='[soundex]'`.

**Text** may hold `${{NAME}}` or `${{NAME:-default}}`, replaced by environment variables; `$${{` stands for `${{`.

**Durations** are seconds, or a text such as `250ms`, `30s`, `5m`, `12h`, `7d`. **Sizes** are bytes, or a text such as
`64KiB`, `16MB`, `2GiB`. **Names** have 1 to 63 lower-case letters, digits and single underscores, and begin with a
letter. A key without a value counts as absent. YAML is read as version 1.2: `on`, `no` and `12:30` are text.

**SQL** stands only in datasets, as expressions of PostgreSQL that give one value per row, the same whenever they are
computed: no subqueries, aggregates, window functions, nor anything that depends on time, chance or the session. A
column without a table is one of the dataset's own; tables go by the names of the dataset and of its joins.
"""


def markdown() -> str:
    """The page."""
    well_known = ", ".join(f"`{name}`" for name in WELL_KNOWN)
    parts = [_INTRODUCTION.format(prefix=PREFIX, well_known=well_known)]
    for name, field in Config.model_fields.items():
        if name != "datasets":
            parts.append(f"## {name}\n\n{meaning(field)}\n\n{_settings(_leaves(field, name))}")
            parts += [_presets(path, section, kind) for path, section, kind in _uniform(field, name)]
        if name == "pools":
            parts.append(_sizes())
    for title, member in _MEMBERS:
        about = " ".join((member.__doc__ or "").split())
        rows = [[f"`{key}`", type_of(f), default_of(f), meaning(f)] for key, f in _own(member)]
        parts.append(f"## {title}\n\n{about}\n\n{table([['Key', 'Type', 'Default', 'Meaning'], *rows])}")
    return "\n".join(parts)


def json_schema() -> str:
    """The JSON schema."""
    schema = Config.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Query broker"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _settings(leaves: Iterable[tuple[str, FieldInfo]]) -> str:
    lines = [["Key", "Type", "Default", "Variable", "Meaning"]]
    for path, field in leaves:
        key = f"`{path.partition('.')[2]}`"
        variable = f"`{PREFIX}{path.upper().replace('.', '__')}`"
        lines.append([key, type_of(field), default_of(field), variable, meaning(field)])
    return table(lines)


def _leaves(field: FieldInfo, path: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every value below a field with its path; sections of one kind side by side are shown once, under KEY."""
    bare = unwrap(field.annotation)
    section = section_of(get_args(bare)[1]) if get_origin(bare) is dict else section_of(bare)
    if section is None:
        yield path, field
        return
    below = f"{path}.NAME" if get_origin(bare) is dict else path
    kind = _kind(section)
    if kind is not None:
        section, below = kind, f"{path}.{_KEY}"
    preset = field.default if isinstance(field.default, Section) and kind is None else None
    for name, child in section.model_fields.items():
        shown = copy(child)
        if preset is not None and name in preset.model_fields_set:
            shown.default = getattr(preset, name)
        elif kind is not None and child.is_required():
            shown.default = None
        yield from _leaves(shown, f"{below}.{name}")


def _kind(section: type[Section]) -> type[Section] | None:
    """The kind of section that every key of a section holds, if it is one and the same."""
    kinds = {section_of(field.annotation) for field in section.model_fields.values()}
    return next(iter(kinds)) if len(kinds) == 1 and len(section.model_fields) > 1 else None


def _uniform(field: FieldInfo, path: str) -> Iterator[tuple[str, type[Section], type[Section]]]:
    """The sections at and below a field that are shown once: path, section, kind."""
    section = section_of(field.annotation)
    if section is None:
        return
    kind = _kind(section)
    if kind is not None:
        yield path, section, kind
        return
    for name, child in section.model_fields.items():
        yield from _uniform(child, f"{path}.{name}")


def _presets(path: str, section: type[Section], kind: type[Section]) -> str:
    """The defaults that differ from key to key."""
    names = [
        name
        for name in kind.model_fields
        if any(name in field.default.model_fields_set for field in section.model_fields.values())
    ]
    lines = [[_KEY, *(f"`{name}`" for name in names), "For"]]
    for key, field in section.model_fields.items():
        cells = []
        for name in names:
            shown = copy(kind.model_fields[name])
            shown.default = getattr(field.default, name)
            cells.append(default_of(shown))
        lines.append([f"`{key}`", *cells, meaning(field)])
    return f"Defaults of `{path}`:\n\n{table(lines)}"


def _own(section: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a section that hold no members; those of a section in it go by their path."""
    for name, field in section.model_fields.items():
        bare = unwrap(field.annotation)
        inner = section_of(bare)
        if inner is not None:
            yield from ((f"{name}.{key}", below) for key, below in _own(inner))
        elif get_origin(bare) is not dict or section_of(get_args(bare)[1]) is None:
            yield name, field


def _sizes() -> str:
    lines = [["Pool", *(f"{count} processors" for count in _MACHINES)]]
    machines, pools = (
        [Machine(count) for count in _MACHINES],
        {n: getattr(PoolsConfig(), n) for n in PoolName},
    )
    for name, pool in pools.items():
        counts = [(connections_of(name, pool, m), workers_of(name, pool, m)) for m in machines]
        lines.append([f"`{name}`", *(f"{c} and {w}" if w else f"{c}" for c, w in counts)])
    shared = {name: pool for name, pool in pools.items() if isinstance(pool, SharingPoolConfig)}
    for where, dsn in (("on this machine", "postgresql://localhost"), ("elsewhere", "")):
        lines.append([f"seats of a database {where}", *(str(seats_of(dsn, shared, m)) for m in machines)])
    return (
        "Connections and workers that are not set follow the processors that the process may use, its container's\n"
        "limits included, and are never more than the pool can use; connections grow with `seats` that are\n"
        "set, or that an adaptive limit may reach. Connections, and workers where there are any:\n\n"
        f"{table(lines)}"
    )


def write(folder: Path) -> None:
    """Writes both files into a folder."""
    (folder / "configuration.md").write_text(markdown(), encoding="utf-8")
    (folder / "querybroker.schema.json").write_text(json_schema(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[2] / "docs")

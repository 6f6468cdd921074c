"""Pages and examples agree with the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.config import reference
from broker.config.document import read_document
from broker.config.loader import load_text
from broker.config.overlay import Layers
from broker.config.schema import Config
from broker.config.shape import read_shape

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```ya?ml\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _examples() -> Iterator[tuple[str, str]]:
    """The YAML examples of all pages that begin with sections of the configuration."""
    for page in PAGES:
        for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
            text = re.sub(f"^{match[1]}", "", match[2], flags=re.MULTILINE)
            keys = re.findall(r"^(\w+):", text, re.MULTILINE)
            if keys and set(keys) <= set(Config.model_fields):
                line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
                yield f"{page.name}:{line}", text


@pytest.mark.parametrize(
    ("file", "text"),
    [("configuration.md", reference.markdown), ("querybroker.schema.json", reference.json_schema)],
    ids=["page", "schema"],
)
def test_the_generated_files_are_up_to_date(file: str, text: object) -> None:
    assert callable(text)
    assert (ROOT / "docs" / file).read_text(encoding="utf-8") == text(), (
        "run python -m broker.config.reference"
    )


@pytest.mark.parametrize("text", [text for _, text in _examples()], ids=[name for name, _ in _examples()])
def test_the_examples_of_the_pages_have_the_right_shape(text: str) -> None:
    document, findings = read_document(text.replace("sha256:…", "sha256:" + "0" * 64), "example", {})
    _, _, wrong = read_shape(Layers(document))
    assert [*findings, *wrong] == []


@pytest.mark.parametrize(
    "text",
    [text for _, text in _examples() if "datasets:" in text],
    ids=[name for name, text in _examples() if "datasets:" in text],
)
def test_the_models_of_the_pages_load(text: str) -> None:
    assert load_text(text, {}, database_needed=False).findings == ()


def test_every_key_is_described() -> None:
    schema = json.loads(reference.json_schema())
    definitions = schema["$defs"]
    sections = {"Config": schema, **definitions}
    described = {
        f"{name}.{key}": value.get("description") or definitions[value["$ref"].split("/")[-1]]["description"]
        for name, section in sections.items()
        for form in (section, *section.get("anyOf", []))
        for key, value in form.get("properties", {}).items()
    }
    assert len(described) > 100
    assert [key for key, description in described.items() if not description] == []


def test_editors_accept_the_short_forms() -> None:
    definitions = json.loads(reference.json_schema())["$defs"]
    mapping, text = definitions["DimensionConfig"]["anyOf"]
    assert mapping["required"] == ["type"]
    assert text["$ref"] == "#/$defs/DataType"
    assert definitions["MeasureConfig"]["anyOf"][1]["$ref"] == "#/$defs/MeasureKind"
    assert "required" not in definitions["QueryPoolConfig"]

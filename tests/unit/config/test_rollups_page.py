"""The page about rollups says what is there."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from broker.cli.rollup import rollup
from broker.config.loader import load_text
from broker.config.machine import Machine
from broker.config.schema_rollups import RollupConfig
from broker.domain.rollup import Rule, Tracking

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "rollups.md").read_text("utf-8")
MODELS = [
    block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("datasets:")
]


def rows(heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^|]*)` \|", part, re.MULTILINE)


def test_every_rule_is_explained() -> None:
    assert rows("Which rollup answers") == [rule.value for rule in Rule]


def test_every_way_to_notice_changes_is_explained() -> None:
    head, *found = rows("Freshness")
    assert (head, found) == ("tracking", [tracking.value for tracking in Tracking])


def test_every_command_is_explained() -> None:
    commands = re.findall(r"^\| `broker rollup ([a-z]+)", PAGE, re.MULTILINE)
    assert set(commands) == set(rollup.commands)


def test_keys_are_those_of_the_schema() -> None:
    keys = {key for cell in rows("Declaring") for key in re.findall(r"[a-z_]+", cell)}
    assert keys <= set(RollupConfig.model_fields)


@pytest.mark.parametrize("text", MODELS)
def test_the_examples_can_be_used(text: str) -> None:
    loaded = load_text(text, {"DATABASE_URL": "postgresql://db/x"}, machine=Machine(2))
    assert loaded.findings == ()
    assert all(dataset.rollups for dataset in loaded.model.datasets.values())


def test_the_examples_were_found() -> None:
    assert len(MODELS) == 2


def test_pictures_are_there_and_well_formed() -> None:
    pictures = re.findall(r"\]\((pictures/[^)]+)\)", PAGE)
    assert pictures
    for picture in pictures:
        assert ET.parse(DOCS / picture).getroot().tag.endswith("svg")

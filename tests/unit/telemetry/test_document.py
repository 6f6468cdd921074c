"""The page about metrics says what the code does."""

from pathlib import Path

from broker.telemetry.document import page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def test_the_page_is_the_one_that_the_code_makes() -> None:
    assert PAGE.read_text() == page(), "run: python -m broker.telemetry.document > docs/metrics.md"

"""Who shares answers where no prefix is set."""

from __future__ import annotations

from collections.abc import Mapping

from broker.app.cache import among_readers
from broker.config.loader import load_text

MODEL = "datasets: {sales: {table: sales, measures: {n: count}}}\n"
USUAL = "postgresql://ada:secret@db:5432/sales?search_path=eu"
CHANGES = (("/sales", "/staging"), ("ada", "eve"), ("@db", "@dc"), ("5432", "5433"), ("=eu", "=us"))


def prefix(dsn: str = USUAL, env: Mapping[str, str] | None = None, more: str = "") -> str:
    """What names of keys begin with, for a broker of that database."""
    settings = load_text(MODEL + more, {"DATABASE_URL": dsn}, source="broker.yaml").settings
    return among_readers(settings.cache, settings.database.dsn, env or {}).prefix


def test_answers_are_shared_by_those_who_read_the_same() -> None:
    assert prefix().startswith("querybroker:")
    assert prefix() == prefix(USUAL.replace("secret", "other"), {"PGHOST": "elsewhere"})
    assert prefix() == prefix(f"{USUAL}&password=third")
    others = {prefix(USUAL.replace(*change)) for change in CHANGES}
    assert len(others | {prefix()}) == len(CHANGES) + 1


def test_what_the_address_leaves_out_is_in_the_environment() -> None:
    names = [prefix("postgresql://", {"PGDATABASE": name}) for name in ("sales", "sales", "staging")]
    assert (names[0] == names[1], names[0] == names[2]) == (True, False)


def test_a_prefix_that_is_given_is_taken_as_it_is() -> None:
    assert prefix(more="cache: {prefix: ours}\n") == "ours"

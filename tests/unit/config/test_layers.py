"""Defaults, file, environment and options; interpolation; where a wrong value came from."""

from __future__ import annotations

import pytest

from broker.config.findings import ConfigError
from broker.config.loader import Configuration, load_text
from broker.config.machine import Machine
from broker.domain.pool import PoolName

FILE = """\
database:
  dsn: postgresql://file/flights
server:
  port: 1000
  max_panels: 10
telemetry:
  service_name: from-file
datasets: {flights: {table: flights, dimensions: {carrier: string}, measures: {flights: count}}}
"""


def load(text: str = FILE, /, overrides: dict[str, object] | None = None, **env: str) -> Configuration:
    return load_text(text, env, overrides, source="broker.yaml", machine=Machine(4))


def errors(text: str = FILE, /, overrides: dict[str, object] | None = None, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, overrides, **env)
    return list(map(str, caught.value.findings))


def error(text: str = FILE, /, overrides: dict[str, object] | None = None, **env: str) -> str:
    (only,) = errors(text, overrides, **env)
    return only


def test_later_layers_win() -> None:
    assert load().settings.server.port == 1000
    assert load(QUERYBROKER__SERVER__PORT="2000").settings.server.port == 2000
    assert load(FILE, {"server.port": 3000}, QUERYBROKER__SERVER__PORT="2000").settings.server.port == 3000
    assert load(FILE, {"server.port": "3000"}).settings.server.max_panels == 10
    assert load(FILE.replace("  max_panels: 10\n", "")).settings.server.max_panels == 64


def test_well_known_variables_count_where_the_file_is_silent() -> None:
    assert load(DATABASE_URL="postgresql://env/x").settings.database.dsn == "postgresql://file/flights"
    silent = FILE.replace("  dsn: postgresql://file/flights\n", "").replace("  service_name: from-file\n", "")
    loaded = load(silent, DATABASE_URL="postgresql://env/x", OTEL_SERVICE_NAME="otel").settings
    assert loaded.database.dsn == "postgresql://env/x"
    assert loaded.telemetry.service_name == "otel"
    assert load(silent, PGHOST="db").settings.database.dsn == "postgresql://"
    both = load(silent, DATABASE_URL="postgresql://env/x", QUERYBROKER__DATABASE__DSN="postgresql://own/x")
    assert both.settings.database.dsn == "postgresql://own/x"


def test_variables_are_read_by_the_types_of_the_schema() -> None:
    loaded = load(
        QUERYBROKER__SERVER__REFLECTION="false",
        QUERYBROKER__SERVER__DEADLINES__DASHBOARD__CAP="2m",
        QUERYBROKER__SERVER__SQL__FUNCTIONS="[soundex, levenshtein]",
        QUERYBROKER__POOLS__JOB__WORKER_MEMORY="2GiB",
        QUERYBROKER__TENANTS="{default: {criticality: sheddable}}",
        QUERYBROKER__TELEMETRY__SERVICE_NAME="1234",
        QUERYBROKER__DATASETS__FLIGHTS__TITLE="yes",
    )
    assert not loaded.settings.server.reflection
    assert loaded.settings.server.deadlines.of("querybroker.v1.QueryService/Dashboard").cap == 120
    assert loaded.settings.server.sql_functions == {"soundex", "levenshtein"}
    assert loaded.settings.pools[PoolName.JOB].worker_memory == 2 << 30
    assert set(loaded.settings.tenants) == {"default"}
    assert loaded.settings.telemetry.service_name == "1234"
    assert loaded.model.datasets["flights"].title == "yes"


def test_a_key_that_nobody_knows_is_named_with_the_variable() -> None:
    assert error(QUERYBROKER__SERVER__PROT="1") == (
        "environment variable QUERYBROKER__SERVER__PROT: server has no 'prot'; did you mean 'port'?"
    )
    assert error(FILE, {"servr.port": 1}) == (
        "option servr.port: the configuration has no 'servr'; did you mean 'server'?"
    )


def test_a_wrong_value_is_reported_where_it_was_given() -> None:
    assert error(QUERYBROKER__SERVER__PORT="high") == (
        "environment variable QUERYBROKER__SERVER__PORT: server.port: must be a whole number, and is 'high'"
    )
    assert error(FILE, {"server.port": -1}) == (
        "option server.port: server.port: must be at least 0, and is -1"
    )
    assert error(QUERYBROKER__DATASETS__FLIGHTS__DEFAULT_TIME="carier") == (
        "environment variable QUERYBROKER__DATASETS__FLIGHTS__DEFAULT_TIME: datasets.flights.default_time: "
        "there is no dimension 'carier'"
    )
    assert error(QUERYBROKER__SERVER__SQL__FUNCTIONS="[a") == (
        "environment variable QUERYBROKER__SERVER__SQL__FUNCTIONS: this is not YAML: "
        "while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"
    )
    assert error(QUERYBROKER__DATASETS__FLIGHTS__DIMENSIONS__CARRIER__SQL="upper(carrier)") == (
        "environment variable QUERYBROKER__DATASETS__FLIGHTS__DIMENSIONS__CARRIER__SQL: cannot set "
        "datasets.flights.dimensions.carrier.sql: datasets.flights.dimensions.carrier is not a mapping"
    )


def test_text_is_filled_from_the_environment() -> None:
    text = FILE.replace("postgresql://file/flights", "postgresql://${USER}:${PASSWORD:-none}@db/$${x}")
    assert load(text, USER="me").settings.database.dsn == "postgresql://me:none@db/${x}"
    assert load(text, USER="me", PASSWORD="").settings.database.dsn == "postgresql://me:none@db/${x}"
    assert load(text, USER="", PASSWORD="y").settings.database.dsn == "postgresql://:y@db/${x}"
    assert load(FILE.replace("port: 1000", "port: ${PORT}"), PORT="77").settings.server.port == 77


def test_empty_sections_and_keys_are_absent() -> None:
    loaded = load(
        FILE + "jobs:\nauth:\n  anonymous:\n    attributes:\npools:\n  job:\n    in_flight:\n"
    ).settings
    assert loaded.jobs.retention == 7 * 86400
    assert loaded.pools[PoolName.JOB].in_flight == 5


def test_no_database_is_an_error_only_where_one_is_needed() -> None:
    silent = FILE.replace("  dsn: postgresql://file/flights\n", "")
    assert error(silent) == (
        "broker.yaml:1:10: database.dsn: there is no database: set `database.dsn`, QUERYBROKER__DATABASE__DSN or "
        "DATABASE_URL"
    )
    assert load_text(silent, {}, database_needed=False).settings.database.dsn == ""


def test_yaml_is_read_as_version_1_2() -> None:
    text = (
        FILE.replace("from-file", "on")
        + "tenants: {default: {attributes: {on: no, at: 12:30, day: 2013-01-01}}}\n"
    )
    loaded = load(text).settings
    assert loaded.telemetry.service_name == "on"
    assert loaded.auth.anonymous is not None
    assert loaded.auth.anonymous.attributes == {"on": "no", "at": "12:30", "day": "2013-01-01"}

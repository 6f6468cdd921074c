"""The Prometheus endpoint over real HTTP."""

from __future__ import annotations

import io
import logging
import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.telemetry import setup
from broker.telemetry.options import TelemetryOptions
from tests.support.telemetry import record_everything

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        return str(response.read().decode())


def test_every_metric_is_scraped_under_its_documented_name_and_no_other(port: int) -> None:
    session = setup.start(TelemetryOptions(prometheus_port=port, instance_id="i-1"), io.StringIO())
    record_everything(session.telemetry)
    text = scrape(port)
    assert session.close(timeout=30.0)
    documented = set(re.findall(r"^\| `[a-z_.]+` \| `([a-z_]+)` \|", PAGE.read_text(), re.MULTILINE))
    families = list(text_string_to_metric_families(text))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert names == documented | {"target_info"}
    samples = [sample for family in families if family.name != "target_info" for sample in family.samples]
    documented_labels = {
        name.replace(".", "_") for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", PAGE.read_text())
    }
    assert {label for sample in samples for label in sample.labels} - {"le"} <= documented_labels


def test_histograms_have_the_bounds_of_the_catalog(port: int) -> None:
    session = setup.start(TelemetryOptions(prometheus_port=port), io.StringIO())
    session.telemetry.call("m", "OK", 0.06)
    text = scrape(port)
    assert session.close(timeout=30.0)
    counts = dict(re.findall(r'rpc_server_call_duration_seconds_bucket{le="([^"]+)".*} (\S+)', text))
    assert (counts["0.05"], counts["0.075"], counts["10.0"], counts["+Inf"]) == ("0.0", "1.0", "1.0", "1.0")


def test_closing_frees_the_port(port: int) -> None:
    for _ in range(2):
        session = setup.start(TelemetryOptions(prometheus_port=port), io.StringIO())
        assert session.scrape is not None
        assert session.scrape.port == port
        session.telemetry.loop_lag(0.1)
        assert "querybroker_event_loop_lag_seconds_count 1.0" in scrape(port)
        assert session.close(timeout=30.0)
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_port_in_use_is_an_error_that_says_what_to_do() -> None:
    handlers = list(logging.getLogger().handlers)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{number} .*choose another metrics port, or 0"):
            setup.start(TelemetryOptions(prometheus_port=number), io.StringIO())
    assert logging.getLogger().handlers == handlers

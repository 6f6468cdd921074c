"""Log lines as programs and as people read them."""

from __future__ import annotations

import io
import json
import logging
import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from broker.telemetry import logs
from broker.telemetry.instruments import Telemetry
from broker.telemetry.options import LogFormat

METHOD = "querybroker.v1.QueryService/Explore"


class Terminal(io.StringIO):
    """A stream that says that somebody is looking."""

    def isatty(self) -> bool:
        return True


def written(stream: io.StringIO, format: LogFormat, *, failing: bool = False) -> str:
    before = logging.getLogger().level
    release = logs.configure(stream, format, "INFO", {"service": "querybroker"})
    logger = logging.getLogger("broker.test")
    try:
        logger.debug("not shown")
        if failing:
            try:
                raise ValueError("no")
            except ValueError:
                logger.exception("failed")
        else:
            logger.info("answered %d rows", 3, extra={"reason": "OVERLOADED", "pool": Terminal})
    finally:
        release()
    assert logging.getLogger().level == before
    logger.error("after")
    return stream.getvalue()


def test_a_line_is_one_object_with_its_fields() -> None:
    line = json.loads(written(io.StringIO(), LogFormat.JSON))
    time = line.pop("time")
    assert time.endswith("+00:00")
    assert line.pop("pool").startswith("<class")
    assert line == {
        "level": "INFO",
        "logger": "broker.test",
        "message": "answered 3 rows",
        "service": "querybroker",
        "reason": "OVERLOADED",
    }


def test_a_line_belongs_to_its_trace_and_request() -> None:
    telemetry = Telemetry(TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False))
    with telemetry.server_span(METHOD, {}, request_id="r-1") as call, telemetry.span("stage") as span:
        line = json.loads(written(io.StringIO(), LogFormat.JSON))
        call.status("OK")
    context = span.get_span_context()
    assert line["trace_id"] == f"{context.trace_id:032x}"
    assert line["span_id"] == f"{context.span_id:016x}"
    assert line["trace_flags"] == f"{context.trace_flags:02x}"
    assert (line["request_id"], line["rpc_method"]) == ("r-1", METHOD)


def test_an_exception_is_a_field_of_its_line() -> None:
    (text,) = written(io.StringIO(), LogFormat.JSON, failing=True).splitlines()
    assert "ValueError: no" in json.loads(text)["exception"]


def test_people_get_words() -> None:
    telemetry = Telemetry.off()
    with telemetry.server_span(METHOD, {}, request_id="r-1"):
        text = written(Terminal(), LogFormat.AUTO)
    assert "info    answered 3 rows  reason=OVERLOADED" in text
    assert text.endswith("request_id=r-1\n")
    assert "ValueError: no" in written(Terminal(), LogFormat.TEXT, failing=True)


def test_a_stream_that_is_no_terminal_gets_json() -> None:
    assert json.loads(written(io.StringIO(), LogFormat.AUTO))["message"] == "answered 3 rows"


def test_stacks_are_kept() -> None:
    record = logging.makeLogRecord(
        {"msg": "here", "sinfo": None, "stack_info": "Stack (most recent call last)"}
    )
    record.exc_info = sys.exc_info() if sys.exc_info()[0] else None
    assert json.loads(logs.JsonFormatter({}).format(record))["stack"].startswith("Stack")

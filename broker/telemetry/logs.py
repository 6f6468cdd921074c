"""Log lines: one JSON object each, or words for people; both know the trace and the request they belong to.

Fields are added with ``extra``, as in ``logger.info("answered", extra={"reason": "..."})``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from opentelemetry import context as otel
from opentelemetry.trace import get_current_span

from broker.telemetry import names as n
from broker.telemetry.options import LogFormat

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def context_fields() -> dict[str, str]:
    """The current trace (as OpenTelemetry names it in logs) and the request being served."""
    found: dict[str, str] = {}
    current = otel.get_current()
    if not current:
        return found
    trace_id, span_id, _, flags, _, valid = get_current_span(current).get_span_context()
    if valid:
        found["trace_id"], found["span_id"] = f"{trace_id:032x}", f"{span_id:016x}"
        found["trace_flags"] = f"{int(flags):02x}"
    if value := current.get(n.REQUEST_ID):
        found["request_id"] = str(value)
    if value := current.get(n.RPC_METHOD):
        found["rpc_method"] = str(value)
    return found


def _extra(record: logging.LogRecord) -> dict[str, object]:
    found = vars(record)
    return {name: found[name] for name in found if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One object per line; what cannot be said in JSON is said as text."""

    def __init__(self, constant: Mapping[str, str]) -> None:
        super().__init__()
        self._constant = dict(constant)
        self._encode = json.JSONEncoder(default=str, ensure_ascii=False).encode

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._constant,
            **context_fields(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return self._encode(line)


class TextFormatter(logging.Formatter):
    """Time, level, words, and the fields behind them; which of equal processes it is, where there are several."""

    def __init__(self, constant: Mapping[str, str]) -> None:
        super().__init__()
        self._process = {name: value for name, value in constant.items() if name == "process"}

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, followed by its stack when it has one."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        context = context_fields()
        request = {k: v for k, v in context.items() if k == "request_id"}
        fields = {**_extra(record), **request, **self._process}
        words = [f"{time} {record.levelname.lower():7} {record.getMessage()}"]
        words += [f"{name}={value}" for name, value in fields.items()]
        line = "  ".join(words)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(
    stream: TextIO, format: LogFormat, level: str, constant: Mapping[str, str]
) -> Callable[[], None]:
    """Sends every log record of the process from a level on to the stream; what is returned ends that."""
    human = format is LogFormat.TEXT or (format is LogFormat.AUTO and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter(constant) if human else JsonFormatter(constant))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)

    def release() -> None:
        handler.flush()
        root.removeHandler(handler)
        root.setLevel(before)

    return release

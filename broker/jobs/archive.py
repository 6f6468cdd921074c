"""The child of a report: one ZIP archive with a file of rows for every section, and a manifest.

Rows go straight into the archive, which is hashed as a whole and file by file while it is written; nothing is written
twice, and memory is bounded as in an export. ``manifest.json`` comes last: it lists the files with their columns, rows,
bytes and SHA-256, and says which snapshot all of them were read in.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any, cast

from broker.domain.job import ExportFormat
from broker.jobs.child import Channel
from broker.jobs.order import ArchiveOrder, Close, Done, End, PartDone, Section, Wrote
from broker.jobs.sinks import HashingEntry, HashingFile, open_sink
from broker.jobs.writer import ENDINGS, frames, telling

MANIFEST = "manifest.json"


def write_archive(channel: Channel, order: object) -> None:
    """What the child does."""
    assert isinstance(order, ArchiveOrder)
    telling(channel, lambda: _write(channel, order))


def _write(channel: Channel, order: ArchiveOrder) -> None:
    start_ns = time.time_ns()
    file = HashingFile(Path(order.directory) / order.name)
    sections: list[dict[str, Any]] = []
    rows = 0
    # Typed as a whole file, but written from its beginning to its end, as to a pipe.
    with zipfile.ZipFile(cast("Any", file), "w") as archive:
        while not isinstance(message := channel.receive(), Close):
            assert isinstance(message, Section)
            sections.append(_section(channel, order, archive, message, file, rows))
            rows += sections[-1]["row_count"]
        text = json.dumps({**message.manifest, "sections": sections}, indent=2)
        archive.writestr(_entry(order, MANIFEST, zipfile.ZIP_DEFLATED), text)
    size, sha256 = file.tell(), file.sync()
    channel.send(PartDone(order.name, rows, size, sha256))
    channel.send(Done(os.getpid(), start_ns, time.time_ns()))


def _section(
    channel: Channel,
    order: ArchiveOrder,
    archive: zipfile.ZipFile,
    section: Section,
    file: HashingFile,
    rows: int,
) -> dict[str, Any]:
    name = f"{section.name}.{ENDINGS[order.format]}"
    packed = zipfile.ZIP_DEFLATED if order.format is ExportFormat.CSV else zipfile.ZIP_STORED
    count = 0
    with archive.open(_entry(order, name, packed), "w", force_zip64=True) as inner:
        entry = HashingEntry(inner)
        sink = open_sink(order.format, section.columns, entry)
        while not isinstance(message := channel.receive(), End):
            for frame in frames(message, section.finish, section.columns):
                sink.write(frame)
                count += frame.height
                channel.send(Wrote(rows + count, file.tell()))
        sink.close()
    return {
        "section_id": section.name,
        "file": name,
        "row_count": count,
        "byte_count": entry.tell(),
        "sha256": entry.digest().hex(),
        "columns": [{"name": column.name, "type": column.type.value} for column in section.columns],
    }


def _entry(order: ArchiveOrder, name: str, packed: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, order.time.timetuple()[:6])
    info.compress_type = packed
    info.external_attr = 0o640 << 16
    return info

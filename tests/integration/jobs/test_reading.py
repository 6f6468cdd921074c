"""Results as those who may see the job read them: from any offset, from files or from the row, or refused."""

from __future__ import annotations

from pathlib import Path

from broker.adapters.result_dir import DirectoryResults
from broker.domain.errors import ErrorReason
from broker.domain.job import part_prefix
from broker.domain.work import JobListing
from tests.integration.jobs.test_service import ADA, ask, call, published, read, reason, service
from tests.support.jobs import Jobs


async def test_a_result_is_read_from_any_offset_in_pieces(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())
    data = bytes(range(256)) * 10_000
    done = await published(jobs, tmp_path, job.id, data)
    assert done.result is not None
    for offset in (0, 1, 1_048_576, len(data) - 1, len(data)):
        pieces = await read(app.read_result(call(ADA), "acme", job.id, 0, offset))
        assert b"".join(piece.data for piece in pieces) == data[offset:]
        assert all(len(piece.data) <= 1 << 20 for piece in pieces)
        assert [piece.part for piece in pieces] == [done.result.parts[0], *[None] * (len(pieces) - 1)]
        position = offset
        for piece in pieces:
            assert piece.offset == position
            position += len(piece.data)


async def test_what_cannot_be_read_is_refused_with_its_reason(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())

    async def refused(part: int = 0, offset: int = 0) -> ErrorReason:
        return await reason(anext(app.read_result(call(ADA), "acme", job.id, part, offset)))

    assert await refused() is ErrorReason.JOB_STATE
    done = await published(jobs, tmp_path, job.id, b"0123")
    assert await refused(part=1) is ErrorReason.INVALID_REQUEST
    assert await refused(offset=5) is ErrorReason.INVALID_REQUEST
    await DirectoryResults(tmp_path).delete(part_prefix("acme", job.id, done.fence))
    assert await refused() is ErrorReason.INTERNAL
    await jobs.admin.execute("UPDATE broker.job SET result_expire_time = now() - interval '1 s'")
    await jobs.ports.keeper.expire()
    assert await refused() is ErrorReason.RESULT_EXPIRED


async def test_small_results_are_read_from_the_row(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())
    await published(jobs, tmp_path, job.id, b"0123")
    await jobs.admin.execute("UPDATE broker.job SET result_inline = '0123'")
    await DirectoryResults(tmp_path).delete(part_prefix("acme", job.id, 1))
    (piece,) = await read(app.read_result(call(ADA), "acme", job.id, 0, 1))
    assert piece.data == b"123"
    (listed,) = await app.list_jobs(call(ADA), JobListing(), 10)
    assert listed.result is not None
    assert (listed.result.inline, listed.result.byte_count) == (b"", 4), "a page has no room for them"

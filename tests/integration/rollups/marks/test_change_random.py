"""Writers at random beside answers that are held: none is taken for unchanged that a new look finds different."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from random import Random

from broker.domain.held import Reach
from broker.domain.plan import Plan
from broker.policy.reach import reach_of
from tests.integration.rollups.marks.conftest import World
from tests.integration.rollups.marks.watching import plan, watching
from tests.support.pg import Connection

_ANSWER = (
    "SELECT (SELECT concat(count(*), ' ', sum(amount)) FROM sales WHERE $1::timestamptz IS NULL OR at >= $1"
    " AND at < $2)::text || coalesce(("
    " SELECT string_agg(city, ',' ORDER BY id) FROM shops), '')"
)


async def test_writers_at_random_and_no_answer_is_wrongly_unchanged(world: World) -> None:
    watch = watching(world.dsn, world.dataset)
    random, numbers = Random(20260301), count(100)
    writers = [await world.connect() for _ in range(3)]
    reader = await world.connect()
    open_now: dict[Connection, object] = {}
    months = [datetime(2023 + i // 12, 1 + i % 12, 1, tzinfo=UTC) for i in range(24)]
    held: list[tuple[Plan, Reach, str, str]] = []
    checks = wrong = same = needless = 0
    for _ in range(400):
        await _write(random.choice(writers), open_now, random, months, next(numbers))
        if random.random() < 0.5:
            await watch.poller.turn()
        if random.random() < 0.5:
            first = random.randrange(23)
            last = random.randrange(first + 1, 24)
            bounds = (None,) if random.random() < 0.2 else (months[first], months[last])
            asked = plan(world.dataset, *bounds, by=("city",))
            moment = watch.moment(asked)
            await _write(random.choice(writers), open_now, random, months, next(numbers))
            held.append((asked, reach_of(asked), moment, await _answer(reader, asked)))
            held = held[-25:]
        if random.random() < 0.3:
            await watch.poller.turn()
            for asked, reach, moment, answer in held:
                known = watch.changes.unchanged(reach, moment) is not None
                equal = await _answer(reader, asked) == answer
                checks += 1
                wrong += known and not equal
                same += equal
                needless += equal and not known
    watch.poller.close()
    for connection in [*writers, reader]:
        await connection.close()
    assert wrong == 0
    assert checks > 2000
    assert same > 300
    assert needless < 0.25 * same, (checks, same, needless)


async def _answer(reader: Connection, asked: Plan) -> str:
    bounds = asked.main.bounds
    ends = (None, None) if bounds is None else (bounds.start, bounds.end)
    return str(await reader.fetchval(_ANSWER, *ends))


async def _write(
    writer: Connection,
    open_now: dict[Connection, object],
    random: Random,
    months: list[datetime],
    number: int,
) -> None:
    """One step of a writer: begins, writes, commits or rolls back."""
    transaction = open_now.pop(writer, None)
    if transaction is not None and random.random() < 0.4:
        await (transaction.commit() if random.random() < 0.7 else transaction.rollback())  # type: ignore[attr-defined] # a transaction
        return
    if transaction is None and random.random() < 0.4:
        transaction = writer.transaction()
        await transaction.start()
    if transaction is not None:
        open_now[writer] = transaction
    at = random.choice(months).replace(day=2)
    match random.randrange(20):
        case 0:
            await writer.execute("UPDATE sales SET note = 'x' WHERE id = $1", number - 5)
        case 1 | 2:
            await writer.execute("DELETE FROM sales WHERE id = $1", number - 3 if transaction is None else -1)
        case 3 if not any(each is not writer for each in open_now):
            await writer.execute("UPDATE shops SET city = $1 WHERE id = 2", f"c{number % 3}")
        case 4 | 5:
            nowhere = random.choice((None, "infinity", "4713-01-01 BC"))
            await writer.execute(
                "INSERT INTO sales VALUES ($1, $2::text::timestamptz, 1, $3)", number, nowhere, number % 7
            )
        case 6 if transaction is None:
            await writer.execute(
                "UPDATE sales SET amount = amount + 1 WHERE at IS NULL AND id > $1", number - 20
            )
        case _:
            await writer.execute("INSERT INTO sales VALUES ($1, $2, 1, $3)", number, at, number % 7)

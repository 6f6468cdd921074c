"""Answers in memory: never more bytes than allowed, the latest used, never an older one for a newer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.adapters.cache_memory import MemoryTier, weight
from broker.domain.answer import AnswerKind, AnswerStatus, Exactness, Table
from broker.domain.held import Held, Reach, Selection
from broker.domain.values import ResultFormat

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = [f"{n:032x}" for n in range(8)]
LIMIT, MOST = 20_000, 6_000


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    at: float = 0.0

    def now(self) -> datetime:
        """The instant that belongs to it."""
        return NOON + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        """Its seconds."""
        return self.at


def answer(key: str, size: int = 100, second: int = 0, dataset: str = "flights") -> Held:
    """An answer of so many bytes, read at a second."""
    status = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, NOON + timedelta(seconds=second))
    return Held(key, Table((), 1, ResultFormat.COLUMNS, bytes(size)), status, Reach(dataset))


kept = st.tuples(
    st.just("keep"), st.sampled_from(KEYS), st.integers(0, 9_000), st.integers(0, 5), st.integers(1, 50)
)
looked = st.tuples(st.just("look"), st.sampled_from(KEYS))
removed = st.tuples(st.just("remove"), st.sampled_from(KEYS), st.sampled_from(["", "flights", "weather"]))
passed = st.tuples(st.just("pass"), st.integers(1, 30))


@settings(max_examples=60)
@given(st.lists(kept | looked | removed | passed, max_size=60))
def test_it_is_a_map_of_the_newest_answers_that_fit(steps: list[tuple[object, ...]]) -> None:
    clock = Clock()
    tier = MemoryTier(LIMIT, MOST, clock)
    model: dict[str, tuple[Held, float]] = {}  # latest used last
    for step in steps:
        match step:
            case ("keep", str(key), int(size), int(second), int(lifetime)):
                held = answer(key, size, second, "weather" if key < KEYS[3] else "flights")
                old = model.get(key)
                newer = old is None or old[1] <= clock.at or old[0].as_of <= held.as_of
                fits = size <= MOST and weight(held) <= LIMIT
                assert tier.put(held, lifetime) == (fits and newer)
                if fits and newer:
                    model.pop(key, None)
                    model[key] = (held, clock.at + lifetime)
                    while sum(weight(each) for each, _ in model.values()) > LIMIT:
                        del model[next(iter(model))]
            case ("look", str(key)):
                known = model.pop(key, None)
                if known is not None and known[1] > clock.at:
                    model[key] = known
                assert tier.look(key) is (model[key][0] if key in model else None)
            case ("remove", str(key), str(dataset)):
                takes = key in model and dataset in ("", model[key][0].reach.dataset)
                assert tier.drop(key, Selection(dataset)) == takes
                if takes:
                    del model[key]
            case ("pass", int(seconds)):
                clock.at += seconds
            case _:
                raise AssertionError(step)
        assert tier.bytes == sum(weight(held) for held, _ in model.values()) <= LIMIT
        assert tier.keys() == list(model)
        for dataset in ("flights", "weather"):
            latest = [h for h, until in reversed(model.values()) if until > clock.at]
            assert tier.about(dataset) == [h for h in latest if h.reach.dataset == dataset]


async def test_it_is_a_backend_of_aiocache() -> None:
    tier = MemoryTier(LIMIT, MOST, Clock())
    held = answer(KEYS[0])
    assert await tier.set(KEYS[0], held, ttl=5.0)
    assert await tier.get(KEYS[0]) is held
    assert await tier.multi_get(KEYS[:2]) == [held, None]
    assert await tier.exists(KEYS[0])
    assert await tier.delete(KEYS[0]) == 1
    assert await tier.get(KEYS[0], default="none") == "none"
    await tier.set(KEYS[1], answer(KEYS[1]))
    assert await tier.clear()
    assert (len(tier), tier.bytes, tier.about("flights")) == (0, 0, [])


def test_without_room_nothing_is_held() -> None:
    tier = MemoryTier(0, MOST, Clock())
    assert not tier.put(answer(KEYS[0]), 10.0)
    assert tier.look(KEYS[0]) is None


def test_what_takes_more_counts_for_more() -> None:
    small = answer(KEYS[0])
    assert weight(replace(small, moment="m" * 500)) == weight(small) + 500
    assert weight(answer(KEYS[0], 1_100)) == weight(small) + 1_000

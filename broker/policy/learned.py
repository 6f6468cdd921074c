"""Learned state as bytes and back, and several states as one. Pure: what is read and written is somebody else's matter.

The form is JSON, compressed, with a version; whatever is not of it is refused as a whole, so that half a state is never
learned from. Weights are whole numbers of hundredths, estimates and shapes lists of numbers.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from itertools import islice
from typing import Any

from broker.domain.estimate import Estimate
from broker.domain.request import Basis, RequestKind
from broker.policy.calibration import MEMORY, Calibration
from broker.policy.classify import CLASS_MEMORY, Classifier
from broker.policy.history import History
from broker.policy.plan_model import FIRST_PRICES, SIZE, PlanModel
from broker.policy.sketch import MEMORY as HISTORY_MEMORY
from broker.policy.sketch import Sketch

VERSION = 1
TOGETHER = 16
"""Histories in one piece."""
LARGEST = 64 << 20
"""Bytes of a state without compression; more is not read."""
State = Mapping[str, Any]


class CorruptStateError(ValueError):
    """Bytes that are no learned state of this version."""


def pieces(classifier: Classifier, now: float) -> Iterator[bytes]:
    """Everything that a classifier has learned, in pieces of about a millisecond's work; together they are the state.

    ``now`` is the monotonic clock, of which only ages are kept. The classifier may learn between two pieces.
    """
    packing = zlib.compressobj(6)
    model = classifier.model
    rest: State = {
        "classes": {kind.value: _sketch(sketch) for kind, sketch in classifier.classes.items()},
        "calibrations": {basis.value: _calibration(c) for basis, c in classifier.calibrations.items()},
        "model": {
            "square": model.ridge.square,
            "product": model.ridge.product,
            "count": model.ridge.count,
            "prices": model.prices,
            "variance": model.variance,
        },
    }
    yield packing.compress(_json(rest)[:-1] + b',"histories":{')
    entries, first = iter(classifier.histories), True
    while some := dict(islice(entries, TOGETHER)):
        text = _json({name: _history(history, now) for name, history in some.items()})[1:-1]
        yield packing.compress(text if first else b"," + text)
        first = False
    yield packing.compress(b"}}") + packing.flush()


def dump(classifier: Classifier, now: float) -> bytes:
    """All pieces at once."""
    return b"".join(pieces(classifier, now))


def absorb(classifier: Classifier, data: bytes, age: float, now: float) -> None:
    """Adds a state that was dumped ``age`` seconds ago to what a classifier knows.

    What two states have in common counts twice, within the bounds on weight that every sketch has.

    Raises:
        CorruptStateError: The bytes are not a state; the classifier is as it was.
    """
    try:
        state = json.loads(_inflated(data))
        histories = {str(k): _read_history(v, age, now) for k, v in state["histories"].items()}
        classes = {RequestKind(k): _read_sketch(v, CLASS_MEMORY) for k, v in state["classes"].items()}
        calibrations = {Basis(k): _read_calibration(v) for k, v in state["calibrations"].items()}
        model = _read_model(state["model"])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, zlib.error) as error:
        raise CorruptStateError(f"not a learned state: {type(error).__name__}") from error
    for name, history in histories.items():
        classifier.histories.open(name, history.at).merge(history)
    for kind, sketch in classes.items():
        classifier.classes[kind].merge(sketch)
    for basis, calibration in calibrations.items():
        classifier.calibrations[basis].merge(calibration)
    classifier.model.merge(model)


def _json(value: State) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _inflated(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(data, LARGEST)
    if not unpacking.eof:
        raise ValueError("cut off, or too large")
    return text


def _sketch(sketch: Sketch) -> dict[str, int]:
    return {str(b): hundredths for b, w in sketch.bins.items() if (hundredths := round(w * 100))}


def _read_sketch(state: Mapping[str, Any], memory: float) -> Sketch:
    return Sketch(memory, {_bin(b): _number(w, 0.0, 1e8) / 100 for b, w in state.items()})


def _bin(text: str) -> int:
    found = int(text)
    if abs(found) > 1000:
        raise ValueError("a bin out of range")
    return found


def _history(history: History, now: float) -> State:
    return {
        "age": max(0.0, now - history.at),
        "seconds": _sketch(history.seconds),
        "rows": _sketch(history.rows),
        "bytes": _sketch(history.bytes),
        "offset": _sketch(history.offset),
        "samples": history.samples,
        "last": history.last,
        "ceiling": history.ceiling if math.isfinite(history.ceiling) else None,
        "estimate": list(astuple(history.estimate)) if history.estimate is not None else None,
    }


def _read_history(state: State, age: float, now: float) -> History:
    history = History(now - age - _number(state["age"]))
    for name in ("seconds", "rows", "bytes", "offset"):
        setattr(history, name, _read_sketch(state[name], HISTORY_MEMORY))
    history.samples = int(_number(state["samples"]))
    history.last = _number(state["last"])
    history.ceiling = _number(state["ceiling"]) if state["ceiling"] is not None else math.inf
    if state["estimate"] is not None:
        history.estimate = _read_estimate(state["estimate"])
    return history


def _read_estimate(values: Sequence[Any]) -> Estimate:
    kinds = [type(value) for value in astuple(Estimate(0.0, 0, 0))]
    if len(values) != len(kinds) or len(kinds) != len(fields(Estimate)):
        raise ValueError("an estimate of another form")
    return Estimate(*(kind(_number(value)) for kind, value in zip(kinds, values, strict=True)))


def _calibration(calibration: Calibration) -> State:
    return {
        "centres": {str(at): _sketch(sketch) for at, sketch in calibration.centres.items()},
        "tails": {str(at): _sketch(sketch) for at, sketch in calibration.tails.items()},
        "coverage": calibration.coverage,
        "count": calibration.count,
    }


def _read_calibration(state: State) -> Calibration:
    found = Calibration()
    found.centres = {_bin(at): _read_sketch(sketch, MEMORY) for at, sketch in state["centres"].items()}
    found.tails = {_bin(at): _read_sketch(sketch, MEMORY) for at, sketch in state["tails"].items()}
    found.coverage = _numbers(state["coverage"], len(found.coverage), 0.0, 1.0)
    found.count = int(_number(state["count"]))
    return found


def _read_model(state: State) -> PlanModel:
    model, ridge = PlanModel(), PlanModel().ridge
    ridge.square = [_numbers(row, i + 1, -1e15) for i, row in enumerate(state["square"])]
    ridge.product = _numbers(state["product"], SIZE, -1e15)
    ridge.count = _number(state["count"])
    if len(ridge.square) != SIZE:
        raise ValueError("a model of another form")
    model.prices = _numbers(state["prices"], len(FIRST_PRICES), -100.0, 100.0)
    model.variance = _number(state["variance"], 1e-6, 100.0)
    model.ridge.merge(ridge)
    return model


def _numbers(values: Sequence[Any], count: int, least: float = 0.0, most: float = 1e15) -> list[float]:
    if len(values) != count:
        raise ValueError("a list of another length")
    return [_number(value, least, most) for value in values]


def _number(value: Any, least: float = 0.0, most: float = 1e15) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError("a number that cannot be")
    return float(value)

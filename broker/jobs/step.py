"""A CPU step of a job: a function that a child process imports, calls once, and returns the value of."""

from __future__ import annotations

import importlib
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from broker.jobs.child import Channel

STEP = "broker.jobs.step:run_step"
"""What the child runs; its argument is (function as ``module:name``, argument)."""

FAR = "broker.jobs.step:far_step"
"""What a worker process of a cluster calls, with function and argument."""


@dataclass(frozen=True, slots=True)
class Say:
    """From the child: how far it is."""

    phase: str
    fraction: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Value:
    """From the child: what the function returned."""

    value: object


@dataclass(frozen=True, slots=True)
class Failure:
    """From the child: what the function raised, where it can be sent, and its traceback."""

    error: Exception | None
    text: str


class StepError(Exception):
    """A CPU step raised something that cannot be sent; the text is its traceback."""


def run_step(channel: Channel, argument: object) -> None:
    """What the child does."""
    assert isinstance(argument, tuple)
    name, value = argument
    module, _, function = name.partition(":")

    def say(phase: str, fraction: float | None = None, message: str = "") -> None:
        channel.send(Say(phase, fraction, message))

    try:
        call: Callable[..., object] = getattr(importlib.import_module(module), function)
        channel.send(Value(call(value, say)))
    except EOFError:
        raise  # nobody is left to be told
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the attempt's to judge
        channel.send(Failure(_sendable(error), traceback.format_exc()))


def far_step(name: str, value: object) -> Value | Failure:
    """The same in a worker process of a cluster, from where nobody is told how far it is."""
    module, _, function = name.partition(":")
    try:
        call: Callable[..., object] = getattr(importlib.import_module(module), function)
        return Value(call(value, _silent))
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the attempt's to judge
        return Failure(_sendable(error), traceback.format_exc())


def _silent(phase: str, fraction: float | None = None, message: str = "") -> None:
    """Tells nobody how far a step is."""


def _sendable(error: Exception) -> Exception | None:
    """The error, if it comes out at the other side as it went in."""
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what was just made here
    except Exception:  # noqa: BLE001 - errors of others may fail to pickle in any way
        return None
    return error if type(again) is type(error) else None

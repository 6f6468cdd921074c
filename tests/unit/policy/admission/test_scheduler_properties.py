"""What holds for the admission core whatever happens: a model watches every event and every decision."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policy.admission.values import Refused
from tests.support.admission_events import Event, Script, World, examples, worlds
from tests.support.admission_model import Model

scripts = Script().events


@examples(250)
@given(world=worlds, script=scripts)
def test_seats_are_conserved_and_every_request_ends_once(world: World, script: list[Event]) -> None:
    model = Model(world)
    model.play(script)
    model.finish_all()


@examples(40)
@given(world=worlds, script=scripts)
def test_the_same_events_give_the_same_log(world: World, script: list[Event]) -> None:
    first, second = Model(world), Model(world)
    first.play(script)
    second.play(script)
    assert first.log == second.log


def test_the_scripts_reach_every_decision() -> None:
    seen: set[str] = set()

    @settings(max_examples=250, deadline=None, derandomize=True, database=None)
    @given(world=worlds, script=st.one_of(scripts, Script(groups=False).events))
    def play(world: World, script: list[Event]) -> None:
        model = Model(world)
        model.play(script)
        seen.update(
            f"{d.reason} {d.stage}" if isinstance(d, Refused) else type(d).__name__ for d in model.log
        )

    play()
    assert seen >= {  # those of load groups come at stages of their own as well
        "Admitted",
        "Queued",
        "Killed",
        "OVERLOADED arrival",
        "OVERLOADED queue",
        "TENANT_QUOTA arrival",
        "DEADLINE_TOO_SHORT arrival",
        "DEADLINE_TOO_SHORT queue",
        "DEADLINE_TOO_SHORT dispatch",
        "QUEUE_TIMEOUT queue",
        "QUEUE_TIMEOUT dispatch",
        "DRAINING arrival",
        "DRAINING queue",
    }

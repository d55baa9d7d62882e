"""What the pending matches up to some instant make of the keys: so that a step need not run all of them again.

A state ahead of the settled one. It only saves work: what a key came to here is what it comes to from its settled
state, and a key to which something happens before that instant is dropped and run from there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from operators.clock import NEVER
from operators.matches import Name
from operators.output import Emission
from operators.state import State


@dataclass(slots=True)
class Ran:
    """What a key's matches before `Ahead.until` came to, beyond what is settled.

    steps, events: transitions and events of its incidents. alerts: those that are not settled. given: opened at (µs)
    and id of the incidents that opened.
    """

    steps: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    alerts: set[str] = field(default_factory=set)
    given: list[tuple[int, str]] = field(default_factory=list)


class Ahead:
    """The keys that have pending matches before `until`, µs. Pickled as nothing: it comes again with the next steps."""

    def __init__(self) -> None:
        self.until = NEVER
        self.state = State()
        self.ran: dict[Name, Ran] = {}

    def __reduce__(self) -> tuple[type[Ahead], tuple[()]]:
        return Ahead, ()

    def enter(self, names: Iterable[Name], settled: State) -> None:
        """Begin with the settled state of keys that are not here yet."""
        if not self.ran:
            self.state = State(policies=settled.policies, texts=settled.texts)
        fresh = [name for name in names if name not in self.ran]
        settled.copy(fresh, self.state)
        self.ran.update((name, Ran()) for name in fresh)

    def note(self, emission: Emission, given: dict[Name, list[tuple[int, str]]]) -> None:
        """Remember what a run of this state came to. given: see `Ran`."""
        for name, incidents in emission.states().items():
            ran = self.ran[name]
            for incident, (steps, events) in incidents.items():
                ran.steps[incident], ran.events[incident] = steps, events
        keys = emission.keys()
        alerts = emission.alert_frame(settled=False)
        for alert, incident in zip(alerts["id"].to_list(), alerts["incident_id"].to_list(), strict=True):
            self.ran[keys[incident]].alerts.add(alert)
        for name, pairs in given.items():
            self.ran[name].given += pairs

    def settled(self, before: int, waiting: Container[Name]) -> None:
        """What happened before this instant, µs, is final. waiting: the keys of which matches are still pending."""
        if before >= self.until:
            self.clear()
            return
        self.drop([name for name in self.ran if name not in waiting])
        for ran in self.ran.values():
            if ran.given and ran.given[0][0] < before:
                ran.given = [pair for pair in ran.given if pair[0] >= before]

    def drop(self, names: Iterable[Name]) -> None:
        """Leave these keys to their settled state."""
        mine = [name for name in names if self.ran.pop(name, None) is not None]
        self.state.drop(mine)

    def clear(self) -> None:
        """Leave all keys to their settled state."""
        self.ran, self.until, self.state = {}, NEVER, State()

"""The tenants of the incidents that callers are told of."""

from __future__ import annotations

from dataclasses import replace

from connectors.live_store import LiveStore
from connectors.pipeline import Outcome
from operators.live import Publication

CACHED = 10_000  # incidents whose tenants are remembered


class Tenants:
    """What a store shows of them, remembered while publications tell the changes."""

    def __init__(self, store: LiveStore) -> None:
        self._store = store
        self._known: dict[str, set[str]] = {}

    def complete(self, publication: Publication | None, answers: dict[int, Outcome]) -> dict[int, Outcome]:
        """The answers with all tenants of their incidents, of which a publication tells only the changed ones."""
        if publication is not None:
            for incident in (*publication.gone.incidents, *publication.gone.tenants):
                self._known.pop(incident, None)
            rows = publication.output.incident_tenants
            if rows.height > CACHED:
                self._known.clear()
            elif self._known:
                for incident, tenant in rows.select("incident_id", "tenant").iter_rows():
                    if incident in self._known:
                        self._known[incident].add(tenant)
        wanted = {answer.incident_id for answer in answers.values() if answer.incident_id is not None}
        missing = sorted(wanted.difference(self._known))
        if missing:
            if len(self._known) + len(missing) > CACHED:
                self._known.clear()
                missing = sorted(wanted)
            known = self._store.tenants(missing)
            self._known.update({incident: set(known.get(incident, ())) for incident in missing})
        return {
            offset: answer
            if answer.incident_id is None
            else replace(answer, tenants=tuple(sorted(self._known[answer.incident_id])))
            for offset, answer in answers.items()
        }

"""Evidence of what models said, for decisions in which a fired rule listened to one: a sentence for each reason code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from shopward.evidence import Evidence
from shopward.expr.nodes import MODEL
from shopward.rules.generated import define
from shopward.rules.subject import key_of
from shopward.rules.why import about, entity_source, mask_of

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.models.panel import Panel, Said
    from shopward.models.scorer import Reason

Get = Callable[[str], Any]


class Voices:
    """`of(said, heard, get, event_id, ts)` is the evidence of the models behind `heard` (`score`, `risk`, `MODEL_x`)."""

    def __init__(self, rulebook: Rulebook, panel: Panel, seed: bytes):
        self.rulebook, self.panel = rulebook, panel
        self._env = {"MASK": mask_of(seed), "KEY": key_of}
        self._entity: dict[str, Callable[[Get, str], str]] = {}

    def of(self, said: Said, heard: Iterable[str], get: Get, event_id: str, ts: int) -> tuple[Evidence, ...]:
        found: list[Evidence] = []
        for model in dict.fromkeys(
            said.model if name in ("score", "risk") else name.removeprefix(MODEL) for name in heard
        ):
            if model is not None and said.each[model] == said.each[model]:
                found += self._reasons(model, said, get, event_id, ts)
        return tuple(found)

    def _reasons(self, model: str, said: Said, get: Get, event_id: str, ts: int) -> list[Evidence]:
        score = said.each[model]
        head = f"{model} scores {score:.6g}"
        if model == said.model and said.risk == said.risk:
            head += f" (risk {said.risk:.6g})"
        reasons = self.panel.explain(model, said)
        common: dict[str, Any] = {"source": f"model:{model}", "event_ids": (event_id,), "confidence": score, "ts": ts}
        if not reasons:
            return [Evidence(what=head, entity=self._who("", get, event_id), value=score, **common)]
        return [self._reason(head, reason, get, event_id, common) for reason in reasons]

    def _reason(self, head: str, reason: Reason, get: Get, event_id: str, common: dict[str, Any]) -> Evidence:
        value = None if reason.value != reason.value else reason.value
        return Evidence(
            what=f"{head}: {reason.what}", entity=self._who(reason.feature, get, event_id), feature=reason.feature,
            value=value, usual=reason.usual, **common,
        )  # fmt: skip

    def _who(self, feature: str, get: Get, event_id: str) -> str:
        """The entity that a feature is about, else the subject of the event."""
        find = self._entity.get(feature)
        if find is None:
            named = self.panel.pasts.entities.get(feature, feature)
            source = entity_source(self.rulebook, about(self.rulebook, [named]), "event_id")
            find = self._entity[feature] = define(f"def who(get, event_id):\n    return {source}\n", "who", self._env)
        return find(get, event_id)

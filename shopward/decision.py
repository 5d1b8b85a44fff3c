"""What comes out: one decision with its reasons, or a whole batch of them as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from shopward.declare.types import ACTIONS, Rule
from shopward.evidence import Evidence
from shopward.expr.nodes import MODEL
from shopward.rules.act import CONTROL, TREATED, spread

if TYPE_CHECKING:
    import pyarrow as pa

    from shopward.batch import Batch
    from shopward.features.live import Block
    from shopward.models.panel import Said, Scored
    from shopward.rules.compile import Explained, Reader, Rules
    from shopward.rules.voices import Voices


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What to do with one event, and why.

    `reasons` are the ids of the live rules that fired, strongest first; `shadow` those that fired without a say; `evidence` says
    for each live one what was seen, then why the models it listened to said so, `shadow_evidence` the same for shadow ones.
    `score` is a calibrated probability and `risk` its 0-1000 form, both of champion `model`, None without one; `scores` is what every
    model said. `arm` is `control` when the event was let through to keep labels honest.
    """

    event_id: str
    ts: int
    type: str
    action: str
    reasons: tuple[str, ...] = ()
    score: float | None = None
    risk: float | None = None
    arm: str = TREATED
    shadow: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    rulebook_version: str = ""
    shadow_evidence: tuple[Evidence, ...] = ()
    model: str | None = None
    scores: dict[str, float | None] | None = None


@dataclass(slots=True)
class Decisions:
    """The decisions of one batch as columns; row i judges row `rows[i]` of the batch (labels and observed events are not judged).

    action   int8[n], index into ACTIONS
    hits     uint64[n, w], bit r set where rule r of `rules.order` fired (live and shadow)
    control  bool[n], events of the control arm
    told     what was written down while rules fired, because it depends on lists (see `Rules.fire`)
    scored   what the models said, per row of the batch; None without models
    voices   how that is told
    """

    batch: Batch
    block: Block
    rules: Rules
    rows: np.ndarray
    action: np.ndarray
    hits: np.ndarray
    control: np.ndarray
    told: Explained = field(default_factory=dict)
    scored: Scored | None = None
    voices: Voices | None = None
    _reader: Reader | None = field(default=None, init=False, repr=False, compare=False)
    _combinations: dict[bytes, tuple[tuple[Rule, ...], tuple[Rule, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Decision:
        """Decision i, with its evidence."""
        row = int(self.rows[i])
        live, shadow = self._fired(i)
        said = self.scored.at(row) if self.scored is not None else None
        return Decision(
            event_id=self.batch.event_ids[row],
            ts=int(self.batch.ts[row]),
            type=self.rules.schema.types[self.batch.types[row]],
            action=ACTIONS[self.action[i]],
            reasons=tuple(r.id for r in live),
            arm=CONTROL if self.control[i] else TREATED,
            shadow=tuple(r.id for r in shadow),
            labels=tuple(r.label for r in live if r.label),
            evidence=self._why(live, row, said),
            rulebook_version=self.rules.version,
            shadow_evidence=self._why(shadow, row, said),
            **spoken(said),
        )

    def _fired(self, i: int) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        """The live and the shadow rules behind decision i; the same ones fire again and again."""
        words = self.hits[i].tobytes()
        found = self._combinations.get(words)
        if found is None:
            fired = self.rules.fired(self.hits[i])
            live, shadow = (tuple(r for r in fired if r.state == state) for state in ("live", "shadow"))
            found = self._combinations[words] = live, shadow
        return found

    def _why(self, rules: tuple[Rule, ...], row: int, said: Said | None) -> tuple[Evidence, ...]:
        if not rules:
            return ()
        if self._reader is None:
            self._reader = self.rules.reader(self.batch, self.block)
        seen = [self.told.get((row, r.id)) or self.rules.explain(r, self._reader, row) for r in rules]
        found = tuple(evidence for evidence, _ in seen)
        heard = [name for _, names in seen for name in names]
        if not heard or said is None or self.voices is None:
            return found
        get = partial(self._reader.value, row=row)
        return found + self.voices.of(said, heard, get, self.batch.event_ids[row], int(self.batch.ts[row]))

    def __iter__(self) -> Iterator[Decision]:
        return (self[i] for i in range(len(self)))

    def counts(self) -> dict[str, int]:
        """How many events met each action; every action is present."""
        found = np.bincount(self.action, minlength=len(ACTIONS))
        return {name: int(found[i]) for i, name in enumerate(ACTIONS)}

    def evidence(self) -> Iterator[Evidence]:
        """Evidence of every live rule that fired, in row order."""
        for i in np.flatnonzero((self.hits & self.rules.live).any(axis=1)):
            yield from self[int(i)].evidence

    def table(self) -> pa.Table:
        """One row a decision: event_id, ts, type, action, score, risk, reasons, arm, shadow, rulebook_version.

        With models also `model`, the champion that spoke, and with several of them what each said as `score_NAME`.
        """
        import pyarrow as pa

        n = len(self)
        take = None if n == self.batch.n else self.rows
        ids = pa.array(self.batch.event_ids, pa.string())
        pick = (lambda a: a) if take is None else (lambda a: a[take])
        return pa.table(
            {
                "event_id": ids if take is None else ids.take(pa.array(take)),
                "ts": pa.array(pick(self.batch.ts)).cast(pa.timestamp("ms", "UTC")),
                "type": _words(pick(self.batch.types), self.rules.schema.types),
                "action": _words(self.action, ACTIONS),
                "score": self._numbers("score"),
                "risk": self._numbers("risk"),
                "reasons": self._rule_ids(self.rules.live),
                "arm": _words(self.control.astype(np.int8), (TREATED, CONTROL)),
                "shadow": self._rule_ids(self.rules.shadow),
                "rulebook_version": _words(np.zeros(n, np.int8), (self.rules.version,)),
                **self._models(),
            }
        )

    def _numbers(self, name: str) -> pa.Array:
        import pyarrow as pa

        if self.scored is None:
            return pa.nulls(len(self), pa.float64())
        values = self.scored.columns()[name][self.rows]
        return pa.array(values, pa.float64(), mask=np.isnan(values))

    def _models(self) -> dict[str, pa.Array]:
        if self.scored is None:
            return {}
        names = self.scored.names
        each = {f"score_{name}": self._numbers(MODEL + name) for name in names if len(names) > 1}
        return {"model": _words(self.scored.who[self.rows], names)} | each

    def _rule_ids(self, mask: np.ndarray) -> pa.Array:
        import pyarrow as pa

        offsets = np.zeros(len(self) + 1, np.int32)
        flat = np.empty(max(len(self), 16), np.int32)
        found = spread(self.hits, mask, offsets, flat)
        if found > len(flat):
            flat = np.empty(found, np.int32)
            spread(self.hits, mask, offsets, flat)
        return pa.ListArray.from_arrays(pa.array(offsets), _words(flat[:found], self.rules.ids))


def table_of(decisions: Sequence[Decision], models: Sequence[str] = ()) -> pa.Table:
    """The same rows of decisions that lie apart; `models` are the names of the models that were asked."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    kinds = {
        "ts": pa.timestamp("ms", "UTC"),
        "score": pa.float64(),
        "risk": pa.float64(),
        "reasons": texts,
        "shadow": texts,
    }
    names = ["event_id", "ts", "type", "action", "score", "risk", "reasons", "arm", "shadow", "rulebook_version"]
    names += ["model"] if models else []
    columns = {name: pa.array([getattr(d, name) for d in decisions], kinds.get(name, pa.string())) for name in names}
    scores = {f"score_{name}": [(d.scores or {}).get(name) for d in decisions] for name in models if len(models) > 1}
    return pa.table(columns | {name: pa.array(values, pa.float64()) for name, values in scores.items()})


def spoken(said: Said | None) -> dict[str, Any]:
    """The part of a decision that models say."""
    if said is None:
        return {}
    each = {name: None if value != value else value for name, value in said.each.items()}
    score, risk = (None if value != value else value for value in (said.score, said.risk))
    return {"score": score, "risk": risk, "model": said.model, "scores": each}


def _words(codes: np.ndarray, words) -> pa.Array:
    import pyarrow as pa

    indices = pa.array(codes.astype(np.int32, copy=False), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(words), pa.string())).cast(pa.string())

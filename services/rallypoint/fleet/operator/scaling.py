"""Thinks about how many servers a set needs, and writes it: through /scale alone."""

from __future__ import annotations

import datetime
import logging
from dataclasses import replace

from rallypoint.fleet.domain import autoscaling, set_status
from rallypoint.fleet.domain.autoscaling import Decision, History, Load, Need
from rallypoint.fleet.domain.game_server_set import GameServerSet, Policy
from rallypoint.fleet.operator import asking
from rallypoint.fleet.operator.acts import SCALER, Acts
from rallypoint.fleet.operator.sets import Sets
from rallypoint.fleet.operator.world import World
from rallypoint.kit import metrics
from rallypoint.kit.clock import Clock
from rallypoint.kube import errors
from rallypoint.kube.domain import owners

log = logging.getLogger(__name__)
KEPT_S = 300.0
"""How long the last answer of a webhook counts while it gives no other."""


class Scaling:
    """Reconciles wanted numbers, each by its set's key."""

    def __init__(
        self, world: World, acts: Acts, sets: Sets, *, clock: Clock, period_s: float
    ) -> None:
        self._world, self._acts, self._sets = world, acts, sets
        self._clock, self._period_s = clock, period_s
        self._histories: dict[str, History] = {}
        self._answers: dict[tuple[str, str], tuple[float, int]] = {}

    async def reconcile(self, key: str) -> float | None:
        """Think about one set; return when to think again."""
        item = self._world.sets.lister.by_key(key)
        if item is None or item.metadata.deletion_timestamp or item.spec.autoscaling is None:
            self._forget(key)
            return None
        current, now = set_status.wanted(item), self._clock.monotonic()
        # A new leader knows no past: what is there now counts as needed for the whole window.
        history = self._histories.setdefault(key, History(needs=((now, current),)))
        load = await self._sets.load(item)
        needs = await self._needs(item, load, current)
        decision = autoscaling.decide(
            item.spec.autoscaling, needs, current=current, now=now, history=history
        )
        if (decision.desired == current and item.spec.replicas is not None) or await self._write(
            item, decision, current
        ):
            self._histories[key] = decision.history
        else:
            self._histories[key] = replace(history, needs=decision.history.needs)
        return self._period_s

    def _forget(self, key: str) -> None:
        self._histories.pop(key, None)
        self._answers = {at: one for at, one in self._answers.items() if at[0] != key}
        notes = self._sets.known_notes(key)
        if notes is not None:
            notes.owned_elsewhere = notes.reason = ""

    async def _needs(self, item: GameServerSet, load: Load, current: int) -> list[Need]:
        scaling, capacity = item.spec.autoscaling, item.spec.capacity
        assert scaling is not None
        asked = {
            policy.name: answer
            for policy in scaling.policies
            if policy.type == "Webhook"
            and (answer := await self._answer(item, policy, load, current)) is not None
        }
        at = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC)
        needs = []
        for policy in scaling.policies:
            try:
                need = autoscaling.need(
                    policy, load, rooms_each=capacity.rooms, players_each=capacity.players,
                    now=at, asked=asked,
                )  # fmt: skip
            except (ValueError, KeyError) as error:  # a schedule that nobody can read
                self._acts.tell_set(item, "PolicyBroken", f"{policy.name}: {error}", warning=True)
                continue
            if need is not None:
                needs.append(need)
        return needs

    async def _answer(
        self, item: GameServerSet, policy: Policy, load: Load, current: int
    ) -> int | None:
        """Return what a webhook says, or said lately."""
        at, now = (item.key, policy.name), self._clock.monotonic()
        question = {
            "set": item.metadata.name, "namespace": item.metadata.namespace,
            "policy": policy.name, "replicas": current, "rooms": load.rooms,
            "claimed": load.claimed, "players": load.players, "unmet": load.unmet,
        }  # fmt: skip
        try:
            servers = await asking.ask(policy.webhook.url if policy.webhook else "", question)
        except asking.Refused as error:
            note = f"{policy.name}: {error}"
            self._acts.tell_set(item, "WebhookSilent", note, warning=True)
            since, last = self._answers.get(at, (float("-inf"), 0))
            return last if now - since <= KEPT_S else None
        self._answers[at] = (now, servers)
        return servers

    async def _write(self, item: GameServerSet, decision: Decision, current: int) -> bool:
        """Write the number; whoever else owns it is left alone, and told of."""
        notes, meta = self._sets.notes(item.key), item.metadata
        notes.reason = decision.reason
        try:
            owner = await self._other_owner(item)
            if owner:
                notes.owned_elsewhere = (
                    f"{decision.desired} servers are wanted, but {owner} says {current}: leave "
                    "spec.replicas out of the manifest"
                )
                return False
            await self._acts.scales.set_scale(meta.name, decision.desired, namespace=meta.namespace)
        except errors.NotFound:
            return False
        notes.owned_elsewhere = ""
        way = "out" if decision.desired > current else "in"
        metrics.OPERATOR_SCALINGS.labels(meta.name, way).inc()
        log.info("scaled", extra={"set": item.key, "to": decision.desired, "why": decision.reason})
        return True

    async def _other_owner(self, item: GameServerSet) -> str:
        """Return whose manifest says how many there shall be.

        Asked before each write: through /scale of a custom resource nothing is refused and no owner
        is noted, `kubectl scale` and the HPA included.
        """
        meta = item.metadata
        found = await self._acts.owned_sets.get(meta.name, namespace=meta.namespace)
        entries = owners.owners(found.metadata.managed_fields, "spec", "replicas")
        return next((one.manager for one in entries if one.manager != SCALER), "")

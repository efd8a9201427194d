"""Whether evictions keep to the chart's disruption budgets, looked at all the time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.kube import chart_stack
from tests.kube.chart_stack import Release
from tests.support import chart

LOOK_S: Final = 0.2


@dataclass
class Budgets:
    """The budgets of a release, and the pods that each of them counts on.

    A pod counts from when it was ready first until it is told to end: a machine that is short of
    time makes pods miss a readiness probe, which is no eviction.
    """

    release: Release
    names: frozenset[str]
    below: list[str] = field(default_factory=list)
    """When there were fewer pods than a budget promises."""
    _came: set[str] = field(default_factory=set)

    def are_whole(self) -> bool:
        """Whether the controller has seen all pods of all budgets healthy: it begins with none."""
        budgets, _ = self._asked()
        whole = {one["metadata"]["name"] for one in budgets if _is_whole(one.get("status", {}))}
        return whole == self.names

    def look(self) -> None:
        """Note which budget is broken now."""
        budgets, pods = self._asked()
        for one in budgets:
            wanted, selector = one["status"]["desiredHealthy"], one["spec"]["selector"]
            held = [pod for pod in pods if self._counts(pod, selector["matchLabels"])]
            if len(held) < wanted:
                self.below.append(f"{one['metadata']['name']}: {len(held)} of {wanted}")

    def _counts(self, pod: dict[str, Any], labels: dict[str, str]) -> bool:
        meta = pod["metadata"]
        return (
            chart.selects(labels, meta["labels"])
            and meta["uid"] in self._came
            and "deletionTimestamp" not in meta
        )

    def _asked(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The budgets and the pods; none when the API server has no time to tell."""
        asked = ("get", "pdb,pods", "-l", chart_stack.PARTS, "-o", "json")
        done = self.release.server.kubectl("-n", self.release.namespace, *asked)
        found = json.loads(done.stdout)["items"] if done.returncode == 0 else []
        pods = [one for one in found if one["kind"] == "Pod"]
        self._came |= {pod["metadata"]["uid"] for pod in pods if chart_stack.is_up(pod)}
        return [one for one in found if one["kind"] == "PodDisruptionBudget"], pods


def _is_whole(status: dict[str, Any]) -> bool:
    return 0 < status.get("expectedPods", 0) == status["currentHealthy"]


@contextmanager
def hold(release: Release, *components: str) -> Iterator[None]:
    """The budgets of these components, and no others, are there and are kept to meanwhile."""
    names = frozenset(f"{chart.RELEASE}-rallypoint-{name}" for name in components)
    watched, over = Budgets(release, names), threading.Event()
    assert chart_stack.within(watched.are_whole, chart_stack.INSTALL_S), release.told()

    def watch() -> None:
        while not over.wait(LOOK_S):
            watched.look()

    with futures.ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            over.set()
        watching.result()
    assert watched.below == []

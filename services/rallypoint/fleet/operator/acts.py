"""What a leader may do: write to the API server, tell people, and nothing once it leads no more."""

from __future__ import annotations

from rallypoint.fleet import resources
from rallypoint.fleet.domain import workload
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.fences import Fences
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.operator.epochs import Epochs
from rallypoint.fleet.operator.kinds import BUDGETS, OWNED_SETS, PODS, REVISIONS
from rallypoint.kube.api import Api
from rallypoint.kube.recorder import Recorder
from rallypoint.kube.transport import Gate, Transport

MANAGER = "fleet-operator"
SCALER = "fleet-autoscaler"


class Acts:
    """The writing side; every write goes through the leader's gate."""

    def __init__(
        self,
        transport: Transport,
        gate: Gate,
        *,
        epochs: Epochs,
        fences: Fences,
        hosts: Hosts,
        recorder: Recorder,
    ) -> None:
        self.sets = Api(transport, resources.GAME_SERVER_SETS, manager=MANAGER, gate=gate)
        self.servers = Api(transport, resources.GAME_SERVERS, manager=MANAGER, gate=gate)
        self.owned_sets = Api(transport, OWNED_SETS, manager=SCALER)
        self.scales = Api(transport, resources.GAME_SERVER_SETS, manager=SCALER, gate=gate)
        self.pods: Api[workload.Pod] = Api(transport, PODS, manager=MANAGER, gate=gate)
        self.revisions = Api(transport, REVISIONS, manager=MANAGER, gate=gate)
        self.budgets = Api(transport, BUDGETS, manager=MANAGER, gate=gate)
        self.epochs, self.fences, self.hosts = epochs, fences, hosts
        self._recorder = recorder

    def tell_set(
        self, item: GameServerSet, reason: str, note: str, *, warning: bool = False
    ) -> None:
        """Write an event about a set."""
        about = resources.GAME_SERVER_SETS.reference(item)
        self._recorder.record(
            about, reason=reason, note=note, type="Warning" if warning else "Normal"
        )

    def tell_server(
        self, item: GameServer, reason: str, note: str, *, warning: bool = False
    ) -> None:
        """Write an event about a server."""
        about = resources.GAME_SERVERS.reference(item)
        self._recorder.record(
            about, reason=reason, note=note, type="Warning" if warning else "Normal"
        )

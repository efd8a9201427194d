"""Counts of a gateway's calls: one Prometheus child per method and code, looked up once."""

from rallypoint.kit import metrics
from rallypoint.kit.errors import Code


class Tally:
    """Counts the calls of one method."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.count_ok = metrics.GATEWAY_CALLS.labels(path, Code.OK.name).inc
        self.waited = metrics.GATEWAY_CALL_SECONDS.labels(path).observe
        self._by_code = {int(Code.OK): self.count_ok}
        self.quick = 0
        """Calls of the express lane, all OK, that `publish` has not yet counted."""

    def count(self, code: int) -> None:
        """Count one call that ended with `code`."""
        counted = self._by_code.get(code)
        if counted is None:
            child = metrics.GATEWAY_CALLS.labels(self._path, Code(code).name)
            counted = self._by_code[code] = child.inc
        counted()

    def publish(self) -> None:
        """Move the express lane's plain count into the metric."""
        if self.quick:
            self.count_ok(self.quick)
            self.quick = 0


UNKNOWN = Tally("unknown")

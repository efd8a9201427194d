"""JSON logs, one object per line on standard error, each with service, instance and trace id.

Events are short constants, details are fields: `logger.info("room_closed", extra={"room": id})`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from rallypoint.kit import telemetry

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._fixed = {"service": service, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **self._fixed,
        }
        if trace_id := telemetry.trace_id():
            line["trace_id"] = trace_id
        line |= fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """The `extra` of a record."""
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def setup(service: str, instance: str, level: str) -> None:
    """Send all logs of this process through the formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service, instance))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # nats-py prints a traceback for each refused reconnect; kit.bus logs the state itself.
    logging.getLogger("nats").setLevel(logging.CRITICAL)

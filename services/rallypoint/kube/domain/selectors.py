"""Label selectors: written for the API server, and matched here against what is cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: Sequence[str] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels meet it; as on the server, an absent label is not in any set."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels

    def __str__(self) -> str:
        match self.operator:
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
            case _:
                word = "in" if self.operator == "In" else "notin"
                return f"{self.key} {word} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its conditions; without any it selects everything."""

    labels: Mapping[str, str] = field(default_factory=dict)
    requirements: Sequence[Requirement] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels meet every condition."""
        return all(labels.get(k) == v for k, v in self.labels.items()) and all(
            requirement.matches(labels) for requirement in self.requirements
        )

    def __str__(self) -> str:
        equal = [f"{key}={value}" for key, value in sorted(self.labels.items())]
        return ",".join([*equal, *map(str, self.requirements)])

"""Cron lines: five fields (minute hour day month weekday) with lists, ranges, steps and names.

As cron has it, day and weekday are alternatives when both are restricted. Pure: the time zone is
applied by whoever asks.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


class CronError(ValueError):
    """The line cannot be read; the text says which part."""


@dataclass(frozen=True, slots=True)
class Cron:
    """When something begins."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def fires(self, at: datetime.datetime) -> bool:
        """Tell whether it begins in this very minute."""
        return (
            at.minute in self.minutes
            and at.hour in self.hours
            and at.month in self.months
            and self._on(at)
        )

    def last(
        self, before: datetime.datetime, *, within: datetime.timedelta
    ) -> datetime.datetime | None:
        """Return when it last began, not longer ago than `within`."""
        at = before.replace(second=0, microsecond=0)
        earliest = before - within
        while at > earliest:
            if not (at.month in self.months and self._on(at)):
                at = at.replace(hour=0, minute=0) - datetime.timedelta(minutes=1)
            elif at.hour not in self.hours:
                at = at.replace(minute=0) - datetime.timedelta(minutes=1)
            elif at.minute not in self.minutes:
                at -= datetime.timedelta(minutes=1)
            else:
                return at
        return None

    def _on(self, at: datetime.datetime) -> bool:
        by_day = at.day in self.days
        by_weekday = at.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday


def parse(line: str) -> Cron:
    """Return what a line says."""
    fields = line.lower().split()
    if len(fields) != 5:
        raise CronError(f"{line!r} has {len(fields)} fields, not minute hour day month weekday")
    minutes, hours, days, months, weekdays = (
        _field(field, *bounds) for field, bounds in zip(fields, _RANGES, strict=True)
    )
    return Cron(
        minutes, hours, days, months,
        frozenset(day % 7 for day in weekdays),  # 7 is Sunday, as 0 is
        any_day=fields[2].startswith("*"),
        any_weekday=fields[4].startswith("*"),
    )  # fmt: skip


def _field(text: str, least: int, most: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and (not step.isdigit() or int(step) == 0):
            raise CronError(f"{part!r}: a step is a number above 0")
        first, last = _span(span, least, most, open_end=bool(slash))
        values.update(range(first, last + 1, int(step) if slash else 1))
    return frozenset(values)


def _span(span: str, least: int, most: int, *, open_end: bool) -> tuple[int, int]:
    if span == "*":
        return least, most
    begin, dash, end = span.partition("-")
    first = _number(begin, most)
    last = _number(end, most) if dash else most if open_end else first
    if not least <= first <= last <= most:
        raise CronError(f"{span!r} is not within {least}-{most}")
    return first, last


def _number(text: str, most: int) -> int:
    names = {12: _MONTHS, 7: _DAYS}.get(most, ())
    if text in names:
        return names.index(text) + (1 if most == 12 else 0)
    if not text.isdigit():
        raise CronError(f"{text!r} is neither a number nor a name")
    return int(text)

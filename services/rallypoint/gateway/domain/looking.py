"""When to look at sockets that are read by the clock: rarely, but once before inputs leave.

    looks = Looks()
    looks.took(now, wait_s)         # what was taken leaves for its node in `wait_s`
    pause_s = looks.pause_s(now)

Each look wakes the process and costs some 40 µs whatever it finds. With ticks 50 ms apart there
are five or six for each: on the way to the next departure, just before it, a millisecond before the
tick for what came too late for that, and the next when the frames of the tick will have come and
say when inputs leave next.
"""

from __future__ import annotations

from dataclasses import dataclass

NEVER = float("-inf")
PERIOD_S = 0.004
"""How long what came lies unread while nothing is known of when it is due."""
PERIOD_MAX_S = 0.016
"""The same while it is: a client that waits for its answer hardly notices."""
NEAR_S = 0.0075
"""The same shortly before: when an input came is told to its client by when it was read."""
AHEAD_S = 0.001
"""How long before inputs leave for their node more are looked for."""
AT_ONCE_S = 0.0005
"""What is due so soon is: timers count in milliseconds, and one that waits for less fires now."""
LAST_S = 0.004
"""From when inputs leave to the last look before their tick, which is `LinkSettings.tick_lead_s`
after that: what it finds leaves at once, and waits 50 ms less than if it were left for the next.
Timers count in milliseconds, so this is one before the tick."""
AFTER_S = 0.01
"""From the look after inputs have left to the next: their tick's frames come meanwhile."""
SMOOTHED_OVER = 8
FORGOTTEN_S = 0.1
"""So long after inputs have left nothing is known of when others will."""


@dataclass(slots=True)
class Looks:
    """The looks at one set of sockets. Times are seconds of one monotonic clock."""

    due_s: float = NEVER
    """When inputs that came lately leave, or lately left, for their node."""
    spent_s: float = 0.0
    """What a look takes until its inputs are on their way, smoothed."""

    def took(self, now: float, wait_s: float) -> None:
        """Inputs were taken that will leave in `wait_s`; 0: that left at once."""
        if wait_s > 0:
            due_s = now + wait_s
            self.due_s = due_s if self.due_s <= now else min(self.due_s, due_s)
        elif now - self.due_s >= FORGOTTEN_S:
            self.due_s = now

    def go_on(self, now: float, next_s: float) -> None:
        """Among what left at once were inputs for other rooms, whose next leave in `next_s`."""
        if self.due_s <= now:
            self.due_s = now + next_s

    def lasted(self, seconds: float) -> None:
        """A look that found inputs took so long: the last one before a tick begins earlier."""
        self.spent_s += (min(seconds, LAST_S / 2) - self.spent_s) / SMOOTHED_OVER

    def pause_s(self, now: float) -> float:
        """How long to look away."""
        left_s = self.due_s - AHEAD_S - now
        if left_s > NEAR_S:
            return max(NEAR_S, min(PERIOD_MAX_S, left_s / 2))
        if left_s > AT_ONCE_S:
            return left_s
        past_s = now - self.due_s
        last_s = LAST_S - self.spent_s
        if past_s < last_s - AT_ONCE_S:
            return last_s - past_s
        return AFTER_S if past_s < FORGOTTEN_S else PERIOD_S

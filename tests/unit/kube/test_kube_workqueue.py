"""The keyed queue: once in it, once in work, nothing lost, back-off per key."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rallypoint.kube.domain.backoff import Backoff, retry_after
from rallypoint.kube.domain.workqueue import Workqueue

NO_JITTER = Backoff(first_s=1.0, most_s=8.0, jitter=0.0)


def queue() -> Workqueue[str]:
    return Workqueue(random.Random(1), backoff=NO_JITTER)


def test_a_key_added_often_is_taken_once() -> None:
    q = queue()
    for _ in range(3):
        q.add("a")
    assert [q.take(0), q.take(0)] == ["a", None]


def test_a_key_in_work_is_not_given_to_a_second_worker_but_comes_again() -> None:
    q = queue()
    q.add("a")
    assert q.take(0) == "a"
    q.add("a")
    assert q.take(0) is None
    q.done("a")
    assert q.take(0) == "a"


def test_failures_wait_longer_and_success_forgets_them() -> None:
    q = queue()
    waits = []
    now = 0.0
    q.add("a")
    for _ in range(5):
        assert q.take(now) == "a"
        waits.append(q.retry("a", now))
        assert q.take(now) is None
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 8]
    assert q.take(now) == "a"
    q.done("a")
    q.add("a")
    assert q.take(now) == "a"
    assert q.retry("a", now) == 1


def test_a_server_that_asks_for_more_time_gets_it() -> None:
    q = queue()
    q.add("a")
    q.take(0)
    assert q.retry("a", 0, after_s=30) == 30
    assert q.take(29.9) is None
    assert q.take(30) == "a"


def test_news_about_a_failing_key_do_not_wait() -> None:
    q = queue()
    q.add("a")
    q.take(0)
    q.retry("a", 0)
    q.add("a")
    assert q.take(0) == "a"
    assert q.take(100) is None


def test_the_earliest_appointment_counts() -> None:
    q = queue()
    q.add_at("a", 9)
    q.add_at("a", 5)
    q.add_at("a", 7)
    assert q.next_due() == 5
    assert q.take(5) == "a"
    q.done("a")
    assert (q.take(20), q.next_due()) == (None, None)


def test_a_forgotten_key_does_not_come() -> None:
    q = queue()
    q.add("a")
    q.add_at("b", 1)
    q.forget("a")
    q.forget("b")
    assert q.take(5) is None


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "later", "take", "done", "retry"]), st.sampled_from("abc")),
    max_size=60,
)


@given(STEPS)
def test_no_key_is_lost_and_none_is_worked_on_twice_at_once(steps: list[tuple[str, str]]) -> None:
    q = queue()
    working: set[str] = set()
    owed: set[str] = set()  # keys that must still be taken once more
    now = 0.0
    for what, key in steps:
        now += 0.5
        match what:
            case "add":
                q.add(key)
                owed.add(key)
            case "later":
                q.add_at(key, now + 3)
                owed.add(key)
            case "take":
                taken = q.take(now)
                assert taken not in working
                if taken is not None:
                    working.add(taken)
                    owed.discard(taken)
            case "done" | "retry" if key in working:
                working.discard(key)
                if what == "done":
                    q.done(key)
                else:
                    q.retry(key, now)
                    owed.add(key)
    for key in list(working):
        q.done(key)
    taken_late = []
    while (key_late := q.take(now + 1000)) is not None:
        taken_late.append(key_late)
    assert set(taken_late) >= owed
    assert max(Counter(taken_late).values(), default=1) == 1


@given(st.integers(1, 10_000), st.randoms(use_true_random=False))
def test_waits_stay_between_half_and_all_of_what_they_grow_to(
    failures: int, rng: random.Random
) -> None:
    wait = Backoff(first_s=0.005, most_s=60.0).delay(failures, rng)
    assert 0.0025 <= wait <= 60.0


@given(st.floats(0, 1000), st.randoms(use_true_random=False))
def test_nobody_comes_back_earlier_than_asked(asked: float, rng: random.Random) -> None:
    assert asked <= retry_after(asked, rng) <= asked * 1.25

"""The matcher's behavior in the situations that shaped it."""

from __future__ import annotations

import numpy as np

from rallypoint.cli import bench_matchmaking
from rallypoint.matchmaking.domain import columns, matching
from rallypoint.matchmaking.domain.entry import Entry

NOW = 1_000.0


def entry(name: str, skill: float, *, waited: float = 0.0, regions: int = 1) -> Entry:
    home = (regions & -regions).bit_length() - 1
    return Entry(name, skill, NOW - waited, region=home, regions=regions)


def matched(entries: list[Entry], rules: matching.Rules) -> list[set[str]]:
    pool = columns.Pool(len(entries))
    for one in entries:
        pool.add(one)
    view, rows = pool.view()
    return [
        {pool.ticket_id(int(rows[row])) for row in players}
        for group in matching.find(view, rules, NOW)
        for players in group.rows
    ]


def rules(
    *sizes: int, after: float = 0.0, reaches: tuple[float, ...] = (100, 500)
) -> matching.Rules:
    return matching.Rules(sizes, 0, after, (0.0, 10.0), reaches)


def test_tolerance_is_mutual() -> None:
    patient = entry("patient", 1500, waited=60)
    newcomer = entry("newcomer", 1800)
    assert matched([patient, newcomer], rules(2)) == []
    waited_too = entry("newcomer", 1800, waited=10)
    assert matched([patient, waited_too], rules(2)) == [{"patient", "newcomer"}]


def test_oldest_come_first_among_equal_skills() -> None:
    people = [entry(str(age), 1500, waited=age) for age in (3, 9, 1, 7, 5)]
    assert sorted(map(sorted, matched(people, rules(2)))) == [["3", "5"], ["7", "9"]]


def test_many_equal_skills_all_match_in_one_cycle() -> None:
    people = [entry(str(number), 1500) for number in range(5_000)]
    assert len(matched(people, rules(2))) == 2_500


def test_a_requeued_ticket_goes_before_equals() -> None:
    people = [entry("old", 1500, waited=20), entry("new", 1500), entry("newer", 1500)]
    back = Entry("back", 1500, NOW, priority=30)
    assert matched([*people, back], rules(2))[0] == {"old", "back"}


def test_particular_tickets_do_not_block_the_rest() -> None:
    """Regression: zero-tolerance tickets inside a window made it invalid for its neighbors."""
    random = np.random.default_rng(3)
    skills = random.normal(1500, 300, 7_000)
    waits = np.where(random.random(7_000) < 0.3, 0.0, 60.0)
    pool = columns.Pool(7_000)
    for number, (skill, waited) in enumerate(zip(skills, waits, strict=True)):
        pool.add(entry(str(number), float(skill), waited=float(waited)))
    view, _ = pool.view()
    groups = matching.find(view, rules(10, reaches=(0.0, 400.0)), NOW)
    willing = int((waits > 0).sum())
    assert sum(group.rows.size for group in groups) >= 0.98 * willing


def test_smaller_matches_wait_for_their_time() -> None:
    three = [entry(name, 1500, waited=3) for name in "abc"]
    assert matched(three, rules(8, 7, 6, 5, 4, 3, 2, after=4)) == []
    one_waited = [entry("a", 1500, waited=4), *three[1:]]
    assert matched(one_waited, rules(8, 7, 6, 5, 4, 3, 2, after=4)) == [{"a", "b", "c"}]


def test_the_largest_match_possible_is_made() -> None:
    people = [entry(str(number), 1500, waited=9) for number in range(13)]
    sizes = sorted(len(match) for match in matched(people, rules(8, 7, 6, 5, 4, 3, 2, after=4)))
    assert sizes == [5, 8]


def test_home_region_first_then_any_allowed_one() -> None:
    here, there = entry("here", 1500, regions=0b01), entry("there", 1500, regions=0b10)
    assert matched([here, there], rules(2)) == []
    flexible = entry("flexible", 1500, regions=0b11)
    assert matched([flexible, there], rules(2)) == [{"flexible", "there"}]
    assert matched([flexible, there, here], rules(2)) == [{"flexible", "here"}]


def test_bench_reports_no_violation() -> None:
    report = bench_matchmaking.measure("skill10", 1_000, cycles=1)
    assert report.violations == 0
    assert 700 <= report.matched_players <= 800

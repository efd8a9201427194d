"""The store: what it holds equals what it was told, by every index; changes say what changed."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from rallypoint.kube.domain.selectors import Requirement, Selector
from rallypoint.kube.domain.store import Change, Store, newer
from rallypoint.kube.objects import ObjectMeta, Resource

INDEXES = {"color": lambda item: (item.metadata.labels.get("color", "none"),)}


def thing(name: str, version: int, color: str = "red") -> Resource:
    meta = ObjectMeta(name=name, resource_version=str(version), labels={"color": color})
    return Resource(metadata=meta)


def names(items: Iterable[Resource]) -> set[str]:
    return {item.metadata.name for item in items}


def test_a_put_tells_what_was_before() -> None:
    store: Store[Resource] = Store(INDEXES)
    first, second = thing("a", 1), thing("a", 2)
    assert store.put(first) == Change("a", None, first)
    assert store.put(second) == Change("a", first, second)


def test_the_same_version_again_is_no_change() -> None:
    store: Store[Resource] = Store()
    store.put(thing("a", 1))
    assert store.put(thing("a", 1)) is None


def test_an_index_follows_its_objects() -> None:
    store: Store[Resource] = Store(INDEXES)
    store.put(thing("a", 1, "red"))
    store.put(thing("a", 2, "blue"))
    assert names(store.by_index("color", "red")) == set()
    assert names(store.by_index("color", "blue")) == {"a"}
    store.remove("a")
    assert store.index_values("color") == []


def test_an_index_made_late_knows_what_is_there() -> None:
    store: Store[Resource] = Store()
    store.put(thing("a", 1))
    store.add_index("color", INDEXES["color"])
    assert names(store.by_index("color", "red")) == {"a"}


def test_a_replacement_tells_what_went_while_nobody_looked() -> None:
    store: Store[Resource] = Store(INDEXES)
    store.replace([thing("a", 1), thing("b", 2)])
    changes = store.replace([thing("b", 2), thing("c", 3)])
    assert [(c.key, c.old is None, c.new is None) for c in changes] == [
        ("c", True, False),
        ("a", False, True),
    ]


THINGS = st.builds(
    thing, st.sampled_from("abcde"), st.integers(1, 5), st.sampled_from(["red", "blue"])
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), THINGS),
        st.tuples(st.just("remove"), st.sampled_from("abcde")),
        st.tuples(st.just("replace"), st.lists(THINGS, unique_by=lambda t: t.key)),
    ),
    max_size=30,
)


@given(STEPS)
def test_indexes_and_changes_agree_with_a_plain_dictionary(steps: list[tuple[str, object]]) -> None:
    store: Store[Resource] = Store(INDEXES)
    told: dict[str, Resource] = {}

    def note(change: Change[Resource] | None) -> None:
        if change is not None:
            assert change.old == told.get(change.key)
            told.pop(change.key, None)
            if change.new is not None:
                told[change.key] = change.new

    for what, argument in steps:
        if what == "put":
            note(store.put(argument))  # type: ignore[arg-type]
        elif what == "remove":
            note(store.remove(argument))  # type: ignore[arg-type]
        else:
            for change in store.replace(argument):  # type: ignore[arg-type]
                note(change)
        assert dict(store.items) == told
        by_color = [
            i for color in store.index_values("color") for i in store.by_index("color", color)
        ]
        assert sorted(map(repr, by_color)) == sorted(map(repr, told.values()))


def test_versions_are_compared_as_numbers() -> None:
    assert newer("10", "9")
    assert not newer("9", "9")
    assert newer("1", "")


def test_a_selector_reads_and_writes_as_kubectl_has_it() -> None:
    selector = Selector(
        {"app": "web"},
        (
            Requirement("tier", "In", ("a", "b")),
            Requirement("old", "DoesNotExist"),
            Requirement("zone", "NotIn", ("z",)),
            Requirement("ready", "Exists"),
        ),
    )
    assert str(selector) == "app=web,tier in (a,b),!old,zone notin (z),ready"
    good = {"app": "web", "tier": "b", "ready": ""}
    assert selector.matches(good)
    assert not selector.matches({**good, "old": "1"})
    assert not selector.matches({**good, "zone": "z"})
    assert not selector.matches({"app": "web", "ready": ""})

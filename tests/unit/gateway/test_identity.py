"""Player ids, names and client versions."""

from __future__ import annotations

import pytest

from rallypoint.gateway.domain import identity
from rallypoint.kit import errors, names


def test_device_is_always_the_same_player() -> None:
    first, again = identity.guest_id(b"a" * 16), identity.guest_id(b"a" * 16)
    assert first == again
    assert first != identity.guest_id(b"b" * 16)
    assert names.check_id(first, "player") == first


@pytest.mark.parametrize("size", [0, 15, 65])
def test_secret_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(errors.InvalidArgument, match="SECRET_INVALID"):
        identity.guest_id(b"s" * size)


def test_issuer_and_subject_do_not_run_together() -> None:
    assert identity.studio_id("ab", "c") != identity.studio_id("a", "bc")


@pytest.mark.parametrize(
    ("wish", "shown"),
    [
        ("  Ada   Lovelace ", "Ada Lovelace"),
        ("Ada\u202eavolevoL", "AdaavolevoL"),
        ("A\u200bda", "Ada"),
        ("line\nbreak", "line break"),
        ("\uff21\uff44\uff41", "Ada"),
        ("x" * 40, "x" * 24),
        ("é̴̴̴̴", "é̴"),
        ("龍が如く", "龍が如く"),
    ],
    ids=["spaces", "bidi", "zero width", "newline", "width", "long", "zalgo", "kanji"],
)
def test_name_is_cleaned(wish: str, shown: str) -> None:
    cleaned = identity.clean_name(wish, "g1")
    assert len(cleaned) <= identity.MAX_NAME_CHARACTERS
    assert cleaned == shown or wish.startswith("é")


def test_combining_marks_are_few() -> None:
    cleaned = identity.clean_name("a" + "\u0334" * 30, "g1")
    assert len(cleaned) <= 3


@pytest.mark.parametrize("wish", ["", "   ", "\u202e\u200b"])
def test_empty_name_is_made_up_and_stays(wish: str) -> None:
    assert identity.clean_name(wish, "g1") == identity.made_up_name("g1")
    assert identity.made_up_name("g1") == identity.made_up_name("g1")


def test_absurd_name_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="NAME_TOO_LONG"):
        identity.clean_name("x" * 97, "g1")


@pytest.mark.parametrize(
    ("build", "protocol", "reason"),
    [
        ("1.3.9", 1, "CLIENT_OUTDATED"),
        ("", 1, "CLIENT_OUTDATED"),
        ("1.4.0", 0, "CLIENT_OUTDATED"),
        ("1.4.0", 2, "PROTOCOL_UNKNOWN"),
    ],
    ids=["old", "none", "protocol", "newer protocol"],
)
def test_clients_we_cannot_serve_are_told(build: str, protocol: int, reason: str) -> None:
    with pytest.raises(errors.FailedPrecondition, match=reason):
        identity.check_client(
            game="skirmish", build=build, protocol=protocol, oldest={"skirmish": "1.4.0"}
        )


@pytest.mark.parametrize("build", ["1.4.0", "1.10", "2.0-rc1", "1.4.0+ci.7"])
def test_new_enough_clients_pass(build: str) -> None:
    identity.check_client(game="skirmish", build=build, protocol=1, oldest={"skirmish": "1.4.0"})


@pytest.mark.parametrize("build", ["x" * 33, "1 4", "../etc", "ü"])
def test_build_of_a_wrong_shape_is_refused(build: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="BUILD_INVALID"):
        identity.check_client(game="skirmish", build=build, protocol=1, oldest={})

"""A repeated message is answered again, not done again."""

import pytest

from rallypoint.kit import errors
from rallypoint.room_state.domain.replies import REMEMBERED, Reply, ReplyLog


def test_answer_is_given_again() -> None:
    log = ReplyLog()
    assert log.known(1) is None
    log.keep(1, Reply(body=b"one"))
    assert log.known(1) == Reply(body=b"one")


def test_older_id_not_seen_yet_is_new() -> None:
    log = ReplyLog()
    log.keep(6, Reply())
    assert log.known(5) is None


def test_memory_is_bounded_and_forgotten_ids_are_refused() -> None:
    log = ReplyLog()
    for number in range(1, 3 * REMEMBERED):
        log.keep(number, Reply())
    with pytest.raises(errors.Aborted, match="MESSAGE_TOO_OLD"):
        log.known(1)
    assert log.known(3 * REMEMBERED - REMEMBERED) == Reply()

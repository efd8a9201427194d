"""A repeated message is answered again, not done again."""

import pytest

from rallypoint.kit import errors
from rallypoint.room_state.domain.replies import REMEMBERED, Reply, ReplyLog, mark_of

MARK = mark_of(1, b"move")


def test_answer_is_given_again() -> None:
    log = ReplyLog()
    assert log.known(1, MARK) is None
    log.keep(1, Reply(body=b"one"), mark=MARK)
    assert log.known(1, MARK) == Reply(body=b"one")


def test_older_id_not_seen_yet_is_new() -> None:
    log = ReplyLog()
    log.keep(6, Reply(), mark=MARK)
    assert log.known(5, MARK) is None


def test_memory_is_bounded_and_forgotten_ids_are_refused() -> None:
    log = ReplyLog()
    for number in range(1, 3 * REMEMBERED):
        log.keep(number, Reply(), mark=MARK)
    with pytest.raises(errors.Aborted, match="MESSAGE_TOO_OLD"):
        log.known(1, MARK)
    assert log.known(3 * REMEMBERED - REMEMBERED, MARK) == Reply()


@pytest.mark.parametrize("mark", [mark_of(1, b"other move"), mark_of(2, b"move")])
def test_another_message_under_a_used_id_is_not_answered_as_done(mark: bytes) -> None:
    log = ReplyLog()
    log.keep(1, Reply(), mark=MARK)
    with pytest.raises(errors.AlreadyExists, match="REQUEST_ID_REUSED"):
        log.known(1, mark)


def test_restored_log_remembers_answers_and_age() -> None:
    log = ReplyLog()
    log.keep(70, Reply(body=b"a"), mark=b"m")
    again = ReplyLog.restored(log.saved())
    assert again.known(70, b"m") == Reply(body=b"a")
    with pytest.raises(errors.Aborted, match="MESSAGE_TOO_OLD"):
        again.known(6, b"m")

"""The transition table against RFC 9293 figure 5, and what it must not contain."""

from __future__ import annotations

import pytest

from services.netstackd.transport.tcp import states as s


def test_every_state_is_reached_and_ends() -> None:
    reached = {s.CLOSED}
    while True:
        more = reached | {after for (before, _), after in s.TRANSITIONS.items() if before in reached}
        if more == reached:
            break
        reached = more
    assert reached == set(s.NAMES) - {s.LISTEN}
    assert all(s.TRANSITIONS[state, s.END] == s.CLOSED for state in s.NAMES)


@pytest.mark.parametrize(
    ("state", "event"),
    [(s.CLOSED, s.GOT_FIN), (s.SYN_SENT, s.SEND_FIN), (s.TIME_WAIT, s.GOT_FIN), (s.CLOSE_WAIT, s.GOT_FIN)],
)
def test_what_cannot_happen_has_no_row(state: int, event: int) -> None:
    with pytest.raises(KeyError):
        s.TRANSITIONS[state, event]


def test_numbers_are_those_of_linux() -> None:
    order = (
        "ESTABLISHED SYN_SENT SYN_RECEIVED FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED CLOSE_WAIT LAST_ACK LISTEN CLOSING"
    )
    assert [s.NAMES[number] for number in range(1, 12)] == order.split()


def test_masks_hold_what_their_names_say() -> None:
    def members(mask: int) -> set[int]:
        return {state for state in s.NAMES if mask >> state & 1}

    assert s.TIME_WAIT in members(s.SYNCHRONIZED) and s.SYN_SENT not in members(s.SYNCHRONIZED)
    assert members(s.CAN_RECEIVE_DATA) == {s.ESTABLISHED, s.FIN_WAIT_1, s.FIN_WAIT_2}
    assert members(s.TRANSMITTING) == members(s.SYNCHRONIZED) - {s.FIN_WAIT_2, s.TIME_WAIT}

"""The output half of the line discipline: OPOST processing, columns, flow control, the echo queue. Sans-IO.

Owns `pending` (bytes on their way to the hardware: a pty's master or the host terminal), the two columns and the queue
of echo operations. Semantics: termios(3) "c_oflag", Linux drivers/tty/n_tty.c for what the page leaves open. Echo is
queued and only shown when it is committed, because a signal character that flushes also drops echo not shown yet.
"""

from __future__ import annotations

from typing import Final

from protocol.abi import termios_h as tm
from services.sentry.devices.terminal.characters import CONTROL, UPPER
from services.sentry.devices.terminal.termios import Termios

__all__ = ["OutputSide"]

#: Bytes held for the hardware before writers must wait; what lies beyond DELIVERED a flush still catches.
LIMIT: Final = 16384
DELIVERED: Final = 4095

# Echo operations follow an OP byte; a literal OP byte is doubled; OP and a control character means "^X".
OP: Final = 0xFF
MOVE_BACK: Final = 0x80
SET_CANON_COLUMN: Final = 0x81
ERASE_TAB: Final = 0x82
ECHO_COMMIT: Final = 256
ECHO_DISCARD: Final = 4096 - (256 + 32)

_NEWLINE, _RETURN, _TAB, _BACKSPACE = 10, 13, 9, 8
_CONTROL_BYTES: Final = bytes(sorted(CONTROL))
_SLOW: Final = tm.OLCUC | tm.OCRNL | tm.ONOCR | tm.ONLRET


class OutputSide:
    """What programs write and what is echoed, on the way out."""

    __slots__ = (
        "canon_column",
        "column",
        "echo",
        "echo_commit",
        "echo_mark",
        "modes",
        "pending",
        "stopped",
        "tco_stopped",
    )

    def __init__(self, modes: Termios) -> None:
        self.modes = modes
        self.pending = bytearray()
        self.column = 0
        self.canon_column = 0
        self.stopped = False  # by a STOP character or TCOOFF
        self.tco_stopped = False  # by TCOOFF: only TCOON starts it again
        self.echo = bytearray()
        self.echo_mark = 0  # how much of `echo` may be shown
        self.echo_commit = 0  # how much of `echo` is being shown

    # --- towards the hardware ---
    @property
    def room(self) -> int:
        return 0 if self.stopped else max(0, LIMIT - len(self.pending))

    def take(self, count: int) -> bytes:
        """Up to `count` bytes for the hardware."""
        data = bytes(self.pending[:count])
        del self.pending[:count]
        return data

    def flush(self, handed_over: int = DELIVERED) -> None:
        """Drop what the hardware has not been handed yet (TCOFLUSH): all behind the first `handed_over` bytes."""
        del self.pending[min(handed_over, DELIVERED) :]

    # --- from programs ---
    def write(self, data: bytes | memoryview) -> int:
        """Process and queue; the number of bytes of `data` taken, 0 when there is no room."""
        self.process_echoes()
        room = self.room
        if room == 0:
            return 0
        oflag = self.modes.oflag
        if not oflag & tm.OPOST:
            part = data[:room]
            self.pending += part
            return len(part)
        if not oflag & _SLOW and oflag & tm.TABDLY != tm.XTABS:
            taken = self._write_plain(bytes(data[:room]), room)
            if taken:
                return taken
        taken = 0
        for char in bytes(data[:room]):
            if not self._put_processed(char):
                break
            taken += 1
        return taken

    def _write_plain(self, part: bytes, room: int) -> int:
        """The usual modes in a few C calls; 0 when it does not fit that way."""
        onlcr = self.modes.oflag & tm.ONLCR
        expanded = part.replace(b"\n", b"\r\n") if onlcr else part
        if len(expanded) > room:
            part = part[: max(1, room // 2)]
            expanded = part.replace(b"\n", b"\r\n")
            if len(expanded) > room:
                return 0
        self.pending += expanded
        newline, carriage = part.rfind(b"\n"), part.rfind(b"\r")
        if onlcr:
            start = max(newline, carriage) + 1
            if start:
                self.column = self.canon_column = 0
                self._advance(part[start:])
            else:
                self._advance(part)
        elif newline < 0 and carriage < 0:
            self._advance(part)
        else:  # a bare newline keeps the column and makes it the canonical one
            position = 0
            for index, char in enumerate(part):
                if char in (_NEWLINE, _RETURN):
                    self._advance(part[position:index])
                    if char == _RETURN:
                        self.column = 0
                    self.canon_column = self.column
                    position = index + 1
            self._advance(part[position:])
        return len(part)

    def _advance(self, text: bytes) -> None:
        """Move the column over `text`, which holds no newline or return."""
        if text.isascii() and len(text.translate(None, _CONTROL_BYTES)) == len(text):
            self.column += len(text)
            return
        utf8 = self.modes.iflag & tm.IUTF8
        column = self.column
        for char in text:
            if char == _TAB:
                column += 8 - (column & 7)
            elif char == _BACKSPACE:
                column = max(0, column - 1)
            elif char not in CONTROL and not (utf8 and char & 0xC0 == 0x80):
                column += 1
        self.column = column

    def _put_processed(self, char: int) -> bool:
        """One byte with OPOST processing. False: no room, nothing was done."""
        oflag = self.modes.oflag
        room = self.room
        if room == 0:
            return False
        if char == _NEWLINE:
            if oflag & tm.ONLRET:
                self.column = 0
            if oflag & tm.ONLCR:
                if room < 2:
                    return False
                self.canon_column = self.column = 0
                self.pending += b"\r\n"
                return True
            self.canon_column = self.column
        elif char == _RETURN:
            if oflag & tm.ONOCR and self.column == 0:
                return True
            if oflag & tm.OCRNL:
                char = _NEWLINE
                if oflag & tm.ONLRET:
                    self.canon_column = self.column = 0
            else:
                self.canon_column = self.column = 0
        elif char == _TAB:
            spaces = 8 - (self.column & 7)
            if oflag & tm.TABDLY == tm.XTABS:
                if room < spaces:
                    return False
                self.column += spaces
                self.pending += b" " * spaces
                return True
            self.column += spaces
        elif char == _BACKSPACE:
            self.column = max(0, self.column - 1)
        elif char not in CONTROL:
            if oflag & tm.OLCUC:
                char = UPPER[char]
            if not (self.modes.iflag & tm.IUTF8 and char & 0xC0 == 0x80):
                self.column += 1
        self.pending.append(char)
        return True

    # --- the echo queue ---
    def echo_raw(self, char: int) -> None:
        """Echo a byte as it is (still subject to OPOST)."""
        self.echo.append(char)
        if char == OP:
            self.echo.append(OP)

    def echo_char(self, char: int) -> None:
        """Echo a byte, control characters as ^X where ECHOCTL is on."""
        if char == OP:
            self.echo += b"\xff\xff"
            return
        if char in CONTROL and char != _TAB and self.modes.lflag & tm.ECHOCTL:
            self.echo.append(OP)
        self.echo.append(char)

    def echo_operation(self, *operation: int) -> None:
        self.echo.append(OP)
        self.echo.extend(operation)

    def commit(self) -> None:
        """All echo queued so far may be shown; it is once there is a block of it."""
        old = self.echo_commit
        self.echo_mark = size = len(self.echo)
        if size < ECHO_COMMIT or size % ECHO_COMMIT > old % ECHO_COMMIT:
            return
        self.echo_commit = size
        self._show_echoes()

    def process_echoes(self) -> None:
        """Show what was committed."""
        if self.echo_mark:
            self.echo_commit = self.echo_mark
            self._show_echoes()

    def flush_echoes(self) -> None:
        """Show all of it: the end of a burst of input."""
        if self.modes.lflag & (tm.ECHO | tm.ECHONL) and self.echo_commit != len(self.echo):
            self.echo_commit = len(self.echo)
            self._show_echoes()

    def drop_echoes(self) -> None:
        self.echo.clear()
        self.echo_mark = self.echo_commit = 0

    def _show_echoes(self) -> None:
        echo, end = self.echo, self.echo_commit
        tail = 0
        while tail < end:
            step = self._show_one(echo, tail)
            if step == 0:
                break
            tail += step
        while end - tail >= ECHO_DISCARD:  # nobody drains it: the oldest goes
            tail += (3 if echo[tail + 1] == ERASE_TAB else 2) if echo[tail] == OP else 1
        del echo[:tail]
        self.echo_commit = max(0, end - tail)
        self.echo_mark = max(0, self.echo_mark - tail)

    def _show_one(self, echo: bytearray, at: int) -> int:
        """Carry out the operation at `at`; its length, or 0 when there is no room for it."""
        char = echo[at]
        room = self.room
        if char != OP:
            if self.modes.oflag & tm.OPOST:
                return 1 if self._put_processed(char) else 0
            if room == 0:
                return 0
            self.pending.append(char)
            return 1
        operation = echo[at + 1]
        if operation == ERASE_TAB:
            columns = echo[at + 2]
            if not columns & 0x80:  # counted from the start of input, which may not be column 0
                columns += self.canon_column
            back = 8 - (columns & 7)
            if back > room:
                return 0
            self.pending += b"\b" * back
            self.column = max(0, self.column - back)
            return 3
        if operation == SET_CANON_COLUMN:
            self.canon_column = self.column
        elif operation == MOVE_BACK:
            self.column = max(0, self.column - 1)
        elif operation == OP:
            if room == 0:
                return 0
            self.pending.append(OP)
            self.column += 1
        else:
            if room < 2:
                return 0
            self.pending += bytes((0x5E, operation ^ 0o100))
            self.column += 2
        return 2

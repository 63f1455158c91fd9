"""The terminal line discipline N_TTY, sans-IO: bytes from the hardware become input for programs, echo and signals.

Owns the input queue, line editing, modes, and (through OutputSide) everything on the way out. Knows no tasks, files or
clocks: what it cannot do itself it leaves in `signals` (numbers for the foreground process group) and `packet_status`
(TIOCPKT_* bits for a pty master in packet mode); the owner takes both after each call. VTIME is the reader's business.

Semantics: termios(3), with Linux drivers/tty/n_tty.c deciding what the page leaves open; a differential test feeds the
same bytes and modes to a host pty. Positions in the input queue are absolute counters (`tail` <= `canon_head` <= head),
as the marks of line ends survive partial reads.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from protocol.abi import signal_h as sg
from protocol.abi import termios_h as tm
from services.sentry.devices.terminal import output_side as out
from services.sentry.devices.terminal.characters import ALNUM, CONTROL, LOWER
from services.sentry.devices.terminal.output_side import OutputSide
from services.sentry.devices.terminal.termios import INITIAL, Termios

__all__ = ["BUFFER_SIZE", "LineDiscipline"]

BUFFER_SIZE: Final = 4096  # termios(3): a line holds at most 4096 characters, the terminator included
INCOMING_LIMIT: Final = 8192  # bytes accepted from the hardware that the queue has no room for yet
_SPECIAL_INPUT: Final = tm.ISTRIP | tm.IUCLC | tm.IGNCR | tm.ICRNL | tm.INLCR | tm.IXON | tm.PARMRK
_SPECIAL_LOCAL: Final = tm.ICANON | tm.ISIG | tm.ECHO
_NEWLINE, _RETURN, _DISABLED = 10, 13, 0


class LineDiscipline:
    """One terminal's discipline. Every public method returns at once."""

    __slots__ = (
        "buffer",
        "burst_start",
        "canon_head",
        "canonical",
        "erasing",
        "incoming",
        "literal_next",
        "marks",
        "modes",
        "output",
        "packet_status",
        "push",
        "raw",
        "signals",
        "special",
        "tail",
    )

    def __init__(self, modes: Termios = INITIAL) -> None:
        self.modes = modes
        self.output = OutputSide(modes)
        self.incoming = bytearray()
        self.buffer = bytearray()  # from `tail` to head
        self.tail = 0
        self.canon_head = 0  # end of the last complete line
        self.marks: deque[int] = deque()  # positions of line ends; the byte there is 0 for an end-of-file
        self.push = False
        self.erasing = False
        self.literal_next = False
        self.burst_start = 0  # output pending when the burst of input began: echo of the same burst is not out yet
        self.signals: list[int] = []
        self.packet_status = 0
        self.canonical = modes.canonical
        self.raw = False
        self.special: frozenset[int] = frozenset()
        self._map_characters()

    # --- modes ---
    def set_modes(self, new: Termios) -> None:
        """tcsetattr(3) TCSANOW. A pty's line is always eight bits without parity, as Linux forces it."""
        old = self.modes
        new = new._replace(cflag=new.cflag & ~(tm.CSIZE | tm.PARENB) | tm.CS8 | tm.CREAD)
        self.modes = self.output.modes = new
        old_flow, new_flow = _usual_flow_control(old), _usual_flow_control(new)
        if old_flow != new_flow:
            self.packet_status &= ~(tm.TIOCPKT_DOSTOP | tm.TIOCPKT_NOSTOP)
            self.packet_status |= tm.TIOCPKT_DOSTOP if new_flow else tm.TIOCPKT_NOSTOP
        if (old.lflag | new.lflag) & tm.EXTPROC:
            self.packet_status |= tm.TIOCPKT_IOCTL
        if (old.lflag ^ new.lflag) & (tm.ICANON | tm.EXTPROC):
            self._change_canonical(new.canonical)
        self.canonical = new.canonical
        self._map_characters()
        if not new.iflag & tm.IXON and old.iflag & tm.IXON and not self.output.tco_stopped:
            self.start()
            self.output.process_echoes()
        self._pump()

    def _change_canonical(self, canonical: bool) -> None:
        """What was typed before a change of ICANON becomes readable as it is."""
        self.marks.clear()
        head = self.tail + len(self.buffer)
        if not canonical or not self.buffer:
            self.canon_head = self.tail
            self.push = False
        else:
            self.marks.append(head - 1)
            self.canon_head = head
            self.push = True
        self.erasing = False
        self.literal_next = False

    def _map_characters(self) -> None:
        """Which input bytes need more than queueing; 0 disables a control character (termios(3) _POSIX_VDISABLE)."""
        iflag, lflag, cc = self.modes.iflag, self.modes.lflag, self.modes.cc
        self.raw = not (iflag & _SPECIAL_INPUT or lflag & _SPECIAL_LOCAL)
        found: set[int] = set()
        if iflag & (tm.IGNCR | tm.ICRNL):
            found.add(_RETURN)
        if iflag & tm.INLCR:
            found.add(_NEWLINE)
        if lflag & tm.ICANON:
            found.update((cc[tm.VERASE], cc[tm.VKILL], cc[tm.VEOF], _NEWLINE, cc[tm.VEOL]))
            if lflag & tm.IEXTEN:
                found.update((cc[tm.VWERASE], cc[tm.VLNEXT], cc[tm.VEOL2]))
                if lflag & tm.ECHO:
                    found.add(cc[tm.VREPRINT])
        if iflag & tm.IXON:
            found.update((cc[tm.VSTART], cc[tm.VSTOP]))
        if lflag & tm.ISIG:
            found.update((cc[tm.VINTR], cc[tm.VQUIT], cc[tm.VSUSP]))
        found.discard(_DISABLED)
        self.special = frozenset(found)

    # --- the hardware's side ---
    @property
    def incoming_room(self) -> int:
        """Bytes `receive` would take now."""
        return max(0, INCOMING_LIMIT - len(self.incoming))

    def receive(self, data: bytes | memoryview) -> int:
        """Bytes typed at the terminal; how many were taken (all up to `incoming_room`)."""
        taken = data[: self.incoming_room]
        self.incoming += taken
        self._pump()
        return len(taken)

    def _pump(self) -> None:
        """Move what fits from `incoming` through the editor; a full unfinished line replaces its last character."""
        while self.incoming:
            room = BUFFER_SIZE - len(self.buffer)
            if self.modes.iflag & tm.PARMRK:
                room = -(-room // 3)
            room -= 1
            if room <= 0:
                overflow = self.canonical and self.canon_head == self.tail
                if overflow and room < 0:
                    self.buffer.pop()
                room = 1 if overflow else 0
            if room == 0:
                return
            chunk = bytes(self.incoming[:room])
            del self.incoming[:room]
            self._receive(chunk)

    def _receive(self, chunk: bytes) -> None:
        iflag, lflag = self.modes.iflag, self.modes.lflag
        before = lflag & tm.IEXTEN and iflag & tm.IUCLC
        if self.raw or (lflag & tm.EXTPROC and not iflag & tm.ISTRIP and not before):
            self.buffer += chunk
            return
        self.burst_start = len(self.output.pending)
        for char in chunk:
            if iflag & tm.ISTRIP:
                char &= 0x7F
            if before:
                char = LOWER[char]
            if self.literal_next:
                self.literal_next = False
                self._ordinary(char)
            elif lflag & tm.EXTPROC:
                self.buffer.append(char)
            elif char in self.special:
                self._special(char)
            else:
                self._ordinary(char)
        self.output.flush_echoes()

    # --- one character ---
    def _ordinary(self, char: int) -> None:
        self._restart_any()
        if self.modes.lflag & tm.ECHO:
            self._finish_erasing()
            self._note_canon_column()
            self.output.echo_char(char)
            self.output.commit()
        self._queue(char)

    def _queue(self, char: int) -> None:
        if char == 0xFF and self.modes.iflag & tm.PARMRK:
            self.buffer.append(char)
        self.buffer.append(char)

    def _special(self, char: int) -> None:
        iflag, lflag, cc = self.modes.iflag, self.modes.lflag, self.modes.cc
        if iflag & tm.IXON:
            if char == cc[tm.VSTART]:
                self.start()
                self.output.process_echoes()
                return
            if char == cc[tm.VSTOP]:
                self.stop()
                return
        if lflag & tm.ISIG:
            for index, signo in ((tm.VINTR, sg.SIGINT), (tm.VQUIT, sg.SIGQUIT), (tm.VSUSP, sg.SIGTSTP)):
                if char == cc[index]:
                    self._signal(signo, char)
                    return
        self._restart_any()
        if char == _RETURN:
            if iflag & tm.IGNCR:
                return
            if iflag & tm.ICRNL:
                char = _NEWLINE
        elif char == _NEWLINE and iflag & tm.INLCR:
            char = _RETURN
        if self.canonical and self._edit(char):
            return
        if lflag & tm.ECHO:
            self._finish_erasing()
            if char == _NEWLINE:
                self.output.echo_raw(_NEWLINE)
            else:
                self._note_canon_column()
                self.output.echo_char(char)
            self.output.commit()
        self._queue(char)

    def _signal(self, signo: int, char: int) -> None:
        """INTR, QUIT or SUSP: flush both queues unless NOFLSH, signal, echo the character."""
        self.signals.append(signo)
        if not self.modes.lflag & tm.NOFLSH:
            self.output.drop_echoes()
            self.output.flush(self.burst_start)
            self.packet_status |= tm.TIOCPKT_FLUSHWRITE
            self.flush_input()
        if self.modes.iflag & tm.IXON:
            self.start()
        if self.modes.lflag & tm.ECHO:
            self.output.echo_char(char)
            self.output.commit()
        else:
            self.output.process_echoes()

    def _edit(self, char: int) -> bool:
        """Canonical mode's own characters. False: `char` is none of them."""
        lflag, cc = self.modes.lflag, self.modes.cc
        extended = lflag & tm.IEXTEN
        if char in (cc[tm.VERASE], cc[tm.VKILL]) or (char == cc[tm.VWERASE] and extended):
            self._erase(char)
            self.output.commit()
            return True
        if char == cc[tm.VLNEXT] and extended:
            self.literal_next = True
            if lflag & tm.ECHO:
                self._finish_erasing()
                if lflag & tm.ECHOCTL:
                    self.output.echo_raw(0x5E)
                    self.output.echo_raw(8)
                    self.output.commit()
            return True
        if char == cc[tm.VREPRINT] and lflag & tm.ECHO and extended:
            self._reprint(char)
            return True
        if char == _NEWLINE:
            if lflag & (tm.ECHO | tm.ECHONL):
                self.output.echo_raw(_NEWLINE)
                self.output.commit()
            self._end_line(char)
            return True
        if char == cc[tm.VEOF]:
            self._end_line(_DISABLED)
            return True
        if char == cc[tm.VEOL] or (char == cc[tm.VEOL2] and extended):
            if lflag & tm.ECHO:
                self._note_canon_column()
                self.output.echo_char(char)
                self.output.commit()
            if char == 0xFF and self.modes.iflag & tm.PARMRK:
                self.buffer.append(char)
            self._end_line(char)
            return True
        return False

    def _end_line(self, char: int) -> None:
        self.marks.append(self.tail + len(self.buffer))
        self.buffer.append(char)
        self.canon_head = self.tail + len(self.buffer)

    def _reprint(self, char: int) -> None:
        self._finish_erasing()
        self.output.echo_char(char)
        self.output.echo_raw(_NEWLINE)
        for typed in bytes(self.buffer[self.canon_head - self.tail :]):
            self.output.echo_char(typed)
        self.output.commit()

    # --- erasing ---
    def _erase(self, char: int) -> None:
        """VERASE, VWERASE or VKILL on the unfinished line (nothing happens when it is empty)."""
        lflag, cc = self.modes.lflag, self.modes.cc
        start = self.canon_head - self.tail
        if len(self.buffer) <= start:
            return
        one, word = char == cc[tm.VERASE], False
        if not one:
            word = char == cc[tm.VWERASE]
            whole_line_shown = tm.ECHOK | tm.ECHOKE | tm.ECHOE
            if not word and (not lflag & tm.ECHO or lflag & whole_line_shown != whole_line_shown):
                del self.buffer[start:]
                if lflag & tm.ECHO:
                    self._finish_erasing()
                    self.output.echo_char(cc[tm.VKILL])
                    if lflag & tm.ECHOK:
                        self.output.echo_raw(_NEWLINE)
                return
        utf8 = self.modes.iflag & tm.IUTF8
        seen_word = False
        while len(self.buffer) > start:
            at = len(self.buffer) - 1
            while utf8 and self.buffer[at] & 0xC0 == 0x80 and at > start:
                at -= 1
            first = self.buffer[at]
            if utf8 and first & 0xC0 == 0x80:
                break  # never a part of a character
            if word:
                if first in ALNUM or first == 0x5F:
                    seen_word = True
                elif seen_word:
                    break
            gone = bytes(self.buffer[at:])
            del self.buffer[at:]
            if lflag & tm.ECHO:
                self._echo_erased(gone, one)
            if one:
                break
        if len(self.buffer) == start and lflag & tm.ECHO:
            self._finish_erasing()

    def _echo_erased(self, gone: bytes, one: bool) -> None:
        """Show that the character made of the bytes `gone` went."""
        output, lflag = self.output, self.modes.lflag
        char = gone[0]
        if lflag & tm.ECHOPRT:
            if not self.erasing:
                output.echo_raw(0x5C)
                self.erasing = True
            output.echo_char(char)
            for more in gone[1:]:
                output.echo_raw(more)
                output.echo_operation(out.MOVE_BACK)
        elif one and not lflag & tm.ECHOE:
            output.echo_char(self.modes.cc[tm.VERASE])
        elif char == 9:
            columns, after_tab = self._columns_before_tab()
            output.echo_operation(out.ERASE_TAB, columns & 7 | (0x80 if after_tab else 0))
        else:
            control = char in CONTROL
            shown = 2 if control and lflag & tm.ECHOCTL else 0 if control else 1
            for erased in b"\b \b" * shown:
                output.echo_raw(erased)

    def _columns_before_tab(self) -> tuple[int, bool]:
        """Columns of the unfinished line since its start or its last tab, and which of the two."""
        columns = 0
        utf8 = self.modes.iflag & tm.IUTF8
        for char in reversed(self.buffer[self.canon_head - self.tail :]):
            if char == 9:
                return columns, True
            if char in CONTROL:
                columns += 2 if self.modes.lflag & tm.ECHOCTL else 0
            elif not (utf8 and char & 0xC0 == 0x80):
                columns += 1
        return columns, False

    def _finish_erasing(self) -> None:
        if self.erasing:
            self.output.echo_raw(0x2F)
            self.erasing = False

    def _note_canon_column(self) -> None:
        if self.canon_head == self.tail + len(self.buffer):
            self.output.echo_operation(out.SET_CANON_COLUMN)

    # --- flow control ---
    def _restart_any(self) -> None:
        stopped = self.output.stopped and not self.output.tco_stopped
        if stopped and self.modes.iflag & (tm.IXON | tm.IXANY) == tm.IXON | tm.IXANY:
            self.start()
            self.output.process_echoes()

    def stop(self) -> None:
        """Output stands still until `start` (STOP character, TCOOFF)."""
        if not self.output.stopped:
            self.output.stopped = True
            self.packet_status = self.packet_status & ~tm.TIOCPKT_START | tm.TIOCPKT_STOP

    def start(self) -> None:
        if self.output.stopped and not self.output.tco_stopped:
            self.output.stopped = False
            self.packet_status = self.packet_status & ~tm.TIOCPKT_STOP | tm.TIOCPKT_START

    # --- the programs' side ---
    @property
    def readable(self) -> bool:
        """A read would give something: a whole line, or any byte in raw mode (VMIN and VTIME are the reader's)."""
        if self.canonical and not self.modes.lflag & tm.EXTPROC:
            return self.canon_head != self.tail
        return bool(self.buffer)

    @property
    def queued(self) -> int:
        """FIONREAD: bytes a read could give, end-of-file marks not counted."""
        if not self.canonical or self.modes.lflag & tm.EXTPROC:
            return len(self.buffer)
        ends = sum(1 for mark in self.marks if self.buffer[mark - self.tail] == _DISABLED)
        return self.canon_head - self.tail - ends

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, in canonical mode at most one line; b'' for an end-of-file or when nothing is there."""
        if self.canonical and not self.modes.lflag & tm.EXTPROC:
            data = self._read_line(count)
        else:
            data = bytes(self.buffer[:count])
            self._consume(len(data))
        self._pump()
        return data

    def _read_line(self, count: int) -> bytes:
        limit = min(count, self.canon_head - self.tail)
        while self.marks and self.marks[0] < self.tail:
            self.marks.popleft()
        if not self.marks or self.marks[0] - self.tail >= limit:
            data = bytes(self.buffer[:limit])
            self._consume(limit)
            # A full buffer with only an end-of-file behind it swallows that: it is no end of file of its own.
            if limit and self.marks and self.marks[0] == self.tail and self.buffer[0] == _DISABLED:
                self.marks.popleft()
                self._consume(1)
            return data
        length = self.marks.popleft() - self.tail
        data = bytes(self.buffer[: length + (self.buffer[length] != _DISABLED)])
        self._consume(length + 1)
        self.push = False
        return data

    def _consume(self, count: int) -> None:
        del self.buffer[:count]
        self.tail += count

    def write(self, data: bytes | memoryview) -> int:
        """Bytes taken for output; 0: no room or stopped."""
        return self.output.write(data)

    def flush_input(self) -> None:
        """Forget unread input (tcflush(3) TCIFLUSH)."""
        self.tail += len(self.buffer)
        self.canon_head = self.tail
        self.buffer.clear()
        self.marks.clear()
        self.push = False
        self.erasing = False
        self.packet_status |= tm.TIOCPKT_FLUSHREAD

    def flush_output(self) -> None:
        """Forget output not handed over yet (TCOFLUSH)."""
        self.output.flush()
        self.packet_status |= tm.TIOCPKT_FLUSHWRITE


def _usual_flow_control(modes: Termios) -> bool:
    """IXON with ^S and ^Q: what packet mode calls DOSTOP (ioctl_tty(2) TIOCPKT)."""
    return bool(modes.iflag & tm.IXON and modes.cc[tm.VSTOP] == 0x13 and modes.cc[tm.VSTART] == 0x11)

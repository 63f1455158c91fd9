"""Terminal modes as a value: the kernel's struct termios2 and its shorter relatives (ioctl_tty(2), termios(3)).

Owns decoding, encoding and speeds. What the modes mean is in line_discipline.py.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.abi import termios_h as tm

__all__ = ["INITIAL", "Termios"]

# Speeds by the value of c_cflag & CBAUD (termios(3), "Line speed").
_LOW: Final = (0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400)
_HIGH: Final = (
    57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000,
    3500000, 4000000,
)  # fmt: skip
SPEEDS: Final = {**dict(enumerate(_LOW)), **{0o10001 + index: speed for index, speed in enumerate(_HIGH)}}
IBSHIFT: Final = 16


class Termios(NamedTuple):
    """struct termios2: flag words, line discipline number, 19 control characters, speeds in baud."""

    iflag: int
    oflag: int
    cflag: int
    lflag: int
    line: int = 0
    cc: bytes = tm.INIT_C_CC
    ispeed: int = 38400
    ospeed: int = 38400

    @property
    def canonical(self) -> bool:
        return bool(self.lflag & tm.ICANON)

    def pack(self) -> bytes:
        """struct termios (TCGETS)."""
        return tm.TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.cc)

    def pack2(self) -> bytes:
        """struct termios2 (TCGETS2)."""
        return tm.TERMIOS2.pack(*self)

    def pack_old(self) -> bytes:
        """struct termio (TCGETA): 16-bit flags, the first eight control characters."""
        words = (word & 0xFFFF for word in (self.iflag, self.oflag, self.cflag, self.lflag))
        return tm.TERMIO.pack(*words, self.line, self.cc[:8])

    @staticmethod
    def unpack(data: bytes) -> Termios:
        """From struct termios; speeds follow c_cflag."""
        return Termios(*tm.TERMIOS.unpack(data)).with_speeds_of_flags(38400)

    @staticmethod
    def unpack2(data: bytes) -> Termios:
        """From struct termios2; the speed fields count only where c_cflag says BOTHER."""
        new = Termios(*tm.TERMIOS2.unpack(data))
        return new.with_speeds_of_flags(new.ospeed)

    def merge_old(self, data: bytes) -> Termios:
        """These modes with what a struct termio (TCSETA) can say replaced."""
        iflag, oflag, cflag, lflag, line, cc = tm.TERMIO.unpack(data)
        high = 0xFFFF0000
        return Termios(
            self.iflag & high | iflag,
            self.oflag & high | oflag,
            self.cflag & high | cflag,
            self.lflag & high | lflag,
            line,
            cc + self.cc[8:],
        ).with_speeds_of_flags(self.ospeed)

    def with_speeds_of_flags(self, other: int) -> Termios:
        """ospeed and ispeed from c_cflag; `other` is the speed that BOTHER stands for."""
        code = self.cflag & tm.CBAUD
        ospeed = other if code == tm.BOTHER else SPEEDS.get(code, 0)
        input_code = self.cflag >> IBSHIFT & tm.CBAUD
        if input_code == tm.B0:
            ispeed = ospeed
        else:
            ispeed = self.ispeed if input_code == tm.BOTHER else SPEEDS.get(input_code, 0)
        return self._replace(ispeed=ispeed, ospeed=ospeed)


# A new terminal's modes (Linux tty_std_termios with the pty driver's c_cflag).
INITIAL: Final = Termios(
    tm.ICRNL | tm.IXON,
    tm.OPOST | tm.ONLCR,
    tm.B38400 | tm.CS8 | tm.CREAD,
    tm.ISIG | tm.ICANON | tm.ECHO | tm.ECHOE | tm.ECHOK | tm.ECHOCTL | tm.ECHOKE | tm.IEXTEN,
)

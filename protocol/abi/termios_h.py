"""<asm-generic/termbits.h>, <asm-generic/termios.h>: terminal modes and the kernel's struct termios for x86-64.

The kernel's structure has 19 control characters; glibc's 32 are its own and never reach a system call.
"""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Indexes into c_cc.
VINTR: Final[int] = 0
VQUIT: Final[int] = 1
VERASE: Final[int] = 2
VKILL: Final[int] = 3
VEOF: Final[int] = 4
VTIME: Final[int] = 5
VMIN: Final[int] = 6
VSWTC: Final[int] = 7
VSTART: Final[int] = 8
VSTOP: Final[int] = 9
VSUSP: Final[int] = 10
VEOL: Final[int] = 11
VREPRINT: Final[int] = 12
VDISCARD: Final[int] = 13
VWERASE: Final[int] = 14
VLNEXT: Final[int] = 15
VEOL2: Final[int] = 16

# c_iflag.
IGNBRK: Final[int] = 1
BRKINT: Final[int] = 2
IGNPAR: Final[int] = 4
PARMRK: Final[int] = 0o10
INPCK: Final[int] = 0o20
ISTRIP: Final[int] = 0o40
INLCR: Final[int] = 0o100
IGNCR: Final[int] = 0o200
ICRNL: Final[int] = 0o400
IUCLC: Final[int] = 0o1000
IXON: Final[int] = 0o2000
IXANY: Final[int] = 0o4000
IXOFF: Final[int] = 0o10000
IMAXBEL: Final[int] = 0o20000
IUTF8: Final[int] = 0o40000

# c_oflag.
OPOST: Final[int] = 1
OLCUC: Final[int] = 2
ONLCR: Final[int] = 4
OCRNL: Final[int] = 0o10
ONOCR: Final[int] = 0o20
ONLRET: Final[int] = 0o40
OFILL: Final[int] = 0o100
OFDEL: Final[int] = 0o200
NLDLY: Final[int] = 0o400
NL0: Final[int] = 0
NL1: Final[int] = 0o400
CRDLY: Final[int] = 0o3000
CR0: Final[int] = 0
CR1: Final[int] = 0o1000
CR2: Final[int] = 0o2000
CR3: Final[int] = 0o3000
TABDLY: Final[int] = 0o14000
TAB0: Final[int] = 0
TAB1: Final[int] = 0o4000
TAB2: Final[int] = 0o10000
TAB3: Final[int] = 0o14000
XTABS: Final[int] = 0o14000
BSDLY: Final[int] = 0o20000
BS0: Final[int] = 0
BS1: Final[int] = 0o20000
VTDLY: Final[int] = 0o40000
VT0: Final[int] = 0
VT1: Final[int] = 0o40000
FFDLY: Final[int] = 0o100000
FF0: Final[int] = 0
FF1: Final[int] = 0o100000

# c_cflag.
CBAUD: Final[int] = 0o10017
B0: Final[int] = 0
B50: Final[int] = 1
B75: Final[int] = 2
B110: Final[int] = 3
B134: Final[int] = 4
B150: Final[int] = 5
B200: Final[int] = 6
B300: Final[int] = 7
B600: Final[int] = 0o10
B1200: Final[int] = 0o11
B1800: Final[int] = 0o12
B2400: Final[int] = 0o13
B4800: Final[int] = 0o14
B9600: Final[int] = 0o15
B19200: Final[int] = 0o16
B38400: Final[int] = 0o17
EXTA: Final[int] = 0o16
EXTB: Final[int] = 0o17
CSIZE: Final[int] = 0o60
CS5: Final[int] = 0
CS6: Final[int] = 0o20
CS7: Final[int] = 0o40
CS8: Final[int] = 0o60
CSTOPB: Final[int] = 0o100
CREAD: Final[int] = 0o200
PARENB: Final[int] = 0o400
PARODD: Final[int] = 0o1000
HUPCL: Final[int] = 0o2000
CLOCAL: Final[int] = 0o4000
CBAUDEX: Final[int] = 0o10000
BOTHER: Final[int] = 0o10000
B57600: Final[int] = 0o10001
B115200: Final[int] = 0o10002
B230400: Final[int] = 0o10003
B460800: Final[int] = 0o10004
B500000: Final[int] = 0o10005
B576000: Final[int] = 0o10006
B921600: Final[int] = 0o10007
B1000000: Final[int] = 0o10010
CIBAUD: Final[int] = 0o2003600000
CMSPAR: Final[int] = 0o10000000000
CRTSCTS: Final[int] = 0o20000000000

# c_lflag.
ISIG: Final[int] = 1
ICANON: Final[int] = 2
XCASE: Final[int] = 4
ECHO: Final[int] = 0o10
ECHOE: Final[int] = 0o20
ECHOK: Final[int] = 0o40
ECHONL: Final[int] = 0o100
NOFLSH: Final[int] = 0o200
TOSTOP: Final[int] = 0o400
ECHOCTL: Final[int] = 0o1000
ECHOPRT: Final[int] = 0o2000
ECHOKE: Final[int] = 0o4000
FLUSHO: Final[int] = 0o10000
PENDIN: Final[int] = 0o40000
IEXTEN: Final[int] = 0o100000
EXTPROC: Final[int] = 0o200000

# tcsetattr, tcflush, tcflow.
TCOOFF: Final[int] = 0
TCOON: Final[int] = 1
TCIOFF: Final[int] = 2
TCION: Final[int] = 3
TCIFLUSH: Final[int] = 0
TCOFLUSH: Final[int] = 1
TCIOFLUSH: Final[int] = 2
TCSANOW: Final[int] = 0
TCSADRAIN: Final[int] = 1
TCSAFLUSH: Final[int] = 2

# Modem lines.
TIOCM_LE: Final[int] = 1
TIOCM_DTR: Final[int] = 2
TIOCM_RTS: Final[int] = 4
TIOCM_ST: Final[int] = 8
TIOCM_SR: Final[int] = 0x10
TIOCM_CTS: Final[int] = 0x20
TIOCM_CAR: Final[int] = 0x40
TIOCM_RNG: Final[int] = 0x80
TIOCM_DSR: Final[int] = 0x100
TIOCM_CD: Final[int] = 0x40
TIOCM_RI: Final[int] = 0x80
TIOCM_OUT1: Final[int] = 0x2000
TIOCM_OUT2: Final[int] = 0x4000
TIOCM_LOOP: Final[int] = 0x8000

# Packet mode.
TIOCPKT_DATA: Final[int] = 0
TIOCPKT_FLUSHREAD: Final[int] = 1
TIOCPKT_FLUSHWRITE: Final[int] = 2
TIOCPKT_STOP: Final[int] = 4
TIOCPKT_START: Final[int] = 8
TIOCPKT_NOSTOP: Final[int] = 0x10
TIOCPKT_DOSTOP: Final[int] = 0x20
TIOCPKT_IOCTL: Final[int] = 0x40

NCCS: Final[int] = 19
# struct termios: c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc.
TERMIOS: Final = layout("struct termios", "IIIIB19s", 36)
# struct termios2: the same, then c_ispeed, c_ospeed.
TERMIOS2: Final = layout("struct termios2", "IIIIB19sII", 44)
# struct termio (TCGETA): c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc.
TERMIO: Final = layout("struct termio", "HHHHB8sx", 18)
# struct winsize: ws_row, ws_col, ws_xpixel, ws_ypixel.
WINSIZE: Final = layout("struct winsize", "HHHH", 8)

# The control characters of a fresh terminal (INIT_C_CC): ^C ^\ DEL ^U ^D, time 0, min 1, none, ^Q ^S ^Z, none, ^R ^O
# ^W ^V, none.
INIT_C_CC: Final[bytes] = b"\x03\x1c\x7f\x15\x04\x00\x01\x00\x11\x13\x1a\x00\x12\x0f\x17\x16\x00\x00\x00"

# pty: a shell on a terminal, its echo and line discipline, window size, interrupt, end of file.
import fcntl
import os
import pty
import select
import struct
import termios
import time

pid, master = pty.fork()
if pid == 0:
    os.environ["PS1"] = "$ "
    os.execlp(
        "sh",
        "sh",
        "-c",
        "tty -s && echo is a terminal; stty size; read x; echo \"got $x\"; trap 'echo int; exit 9' INT; echo ready; while :; do sleep 0.1; done",
    )
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))


def expect(text):
    data = b""
    deadline = time.monotonic() + 10
    while text not in data and time.monotonic() < deadline:
        if select.select([master], [], [], 1)[0]:
            data += os.read(master, 1000)
    return data


first = expect(b"40 100\r\n") if False else expect(b"\r\n")
print(b"is a terminal\r\n" in first)
time.sleep(0.3)
os.write(master, b"typec\x7fd\n")
print(expect(b"ready\r\n").split(b"\r\n")[-3:])
os.write(master, b"\x03")
print(b"int" in expect(b"int\r\n"))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
try:
    print(os.read(master, 100))
except OSError as error:
    print("after the end", error.errno)
master, slave = pty.openpty()
attributes = termios.tcgetattr(slave)
attributes[3] &= ~(termios.ECHO | termios.ICANON)
termios.tcsetattr(slave, termios.TCSANOW, attributes)
os.write(master, b"raw")
print(
    os.read(slave, 10),
    termios.tcgetattr(slave)[3] & termios.ECHO,
    os.isatty(slave),
    os.ttyname(slave).startswith("/dev/pts/"),
)
os.write(slave, b"out\n")
print(os.read(master, 10))
os.close(master)
print(os.read(slave, 10))

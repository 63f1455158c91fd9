"""A guest that waits for what comes over its network by sleeping in its stub (stub/rings.S): whatever else may end a
read does so as it does when the Sentry has the wait, and nobody outlives whom it waits for.

Each program makes a connection busy with short messages, and reads. Another one of the same sandbox looks that it
sleeps there and not in the Sentry (which /proc/PID/syscall tells: `running`), and then does something to it.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

_DO = ("do", "--network", "netstack", "--")

#: Sends back what comes. Of "n" and a name it keeps the connection, to do with it what "data NAME" and the like say.
SERVER = """
import socket, struct, sys, threading
kept = {}
def serve(link):
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := link.recv(64):
        word, _, name = data.decode().partition(" ")
        if word == "keep": kept[name] = link; link.sendall(b"k"); return
        if word == "data": kept[name].sendall(b"d")
        if word == "fin": kept[name].shutdown(socket.SHUT_WR)
        if word == "rst":
            kept[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); kept.pop(name).close()
        link.sendall(b"k")
server = socket.create_server((sys.argv[1], 7120)); print("up", flush=True)
while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""

COMMON = """
import ctypes, errno, fcntl, os, signal, socket, struct, sys, termios, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def say(what): os.write(1, what.encode() + b"\\n")
def connect():
    link = socket.create_connection((sys.argv[1], 7120), 20)
    link.settimeout(None); link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link
def busy(name):
    link = connect()
    for turn in range(300):
        link.sendall(b"x"); assert link.recv(1) == b"k"
    link.sendall(b"keep " + name.encode()); assert link.recv(1) == b"k"
    return link
def read(link, call=None):  # as C programs see it: Python would try again
    buffer = ctypes.create_string_buffer(8)
    got = libc.read(link.fileno(), buffer, 8) if call is None else call(link.fileno(), buffer, 8)
    say(errno.errorcode[ctypes.get_errno()] if got < 0 else f"{got} {buffer.raw[:got].decode()}")
def handle(restart, what=lambda signo, frame: None):
    signal.signal(signal.SIGUSR1, what); signal.siginterrupt(signal.SIGUSR1, not restart)
    signal.signal(signal.SIGALRM, what); signal.siginterrupt(signal.SIGALRM, not restart)
def state(pid):
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
def asleep(pid):
    end = time.monotonic() + 30
    while (state(pid), open(f"/proc/{pid}/syscall").read()) != ("S", "running\\n"):
        assert time.monotonic() < end, (state(pid), open(f"/proc/{pid}/syscall").read())
        time.sleep(0.01)
def begin(name, program):
    '''Fork; the child makes its connection busy, and then reads by itself.'''
    ready, busied = os.pipe()
    pid = os.fork()
    if pid:
        os.close(busied); os.read(ready, 1); os.close(ready)
        return pid
    os.close(ready)
    try: link = busy(name); os.close(busied); program(link); os._exit(0)
    except BaseException as error: say(repr(error)); os._exit(1)
control = None
def tell(what, name):
    control.sendall(f"{what} {name}".encode()); assert control.recv(1) == b"k"
def ended(pid):
    status = os.waitpid(pid, 0)[1]
    if status: say(f"status {status}")
"""


def run(host: Any, peer: Any, code: str) -> list[str]:
    """What the program printed, that has a `control` connection of its own."""
    peer.serve(SERVER, peer.address)
    done = host(*_DO, "python3", "-uc", COMMON + code, peer.address)
    host.assert_nothing_runs()
    return list(done.out.split("\n")[:-1])


def test_signals_end_it_or_it_goes_on(host: Any, peer: Any) -> None:
    code = """
def interrupted(link): handle(False); read(link); read(link)
pid = begin("a", interrupted)
control = connect()
asleep(pid); os.kill(pid, signal.SIGUSR1)
asleep(pid); tell("data", "a"); ended(pid)

caught = []
def restarted(link): handle(True, lambda signo, frame: caught.append(signo)); read(link); say(str(len(caught)))
pid = begin("b", restarted)
asleep(pid)
os.kill(pid, signal.SIGUSR1)
while open(f"/proc/{pid}/status").read().split("SigPnd:")[1].split()[0] != "0" * 16: time.sleep(0.01)
tell("data", "b"); ended(pid)

def timed(link): handle(False); signal.setitimer(signal.ITIMER_REAL, 0.3); read(link)
ended(begin("c", timed))

def ignored(link): signal.signal(signal.SIGUSR1, signal.SIG_IGN); read(link)
pid = begin("d", ignored)
asleep(pid); os.kill(pid, signal.SIGUSR1); asleep(pid); tell("data", "d"); ended(pid)

pid = begin("e", read)
asleep(pid); os.kill(pid, signal.SIGKILL); ended(pid)

pid = begin("f", read)
asleep(pid); os.kill(pid, signal.SIGSTOP)
assert os.waitpid(pid, os.WUNTRACED)[1] == 0x137f
say(state(pid)); os.kill(pid, signal.SIGCONT); tell("data", "f"); ended(pid)
"""
    assert run(host, peer, code) == ["EINTR", "1 d", "1 d", "1", "EINTR", "1 d", "status 9", "T", "1 d"]


def test_what_becomes_of_the_connection_ends_it(host: Any, peer: Any) -> None:
    code = """
def twice(link): read(link); read(link)
for what in ("data", "fin", "rst"):
    pid = begin(what, read if what == "data" else twice)
    control = control or connect()
    asleep(pid); tell(what, what); ended(pid)

def closed(link):
    '''Another thread of the program shuts it down.'''
    def other():
        time.sleep(0.2); link.shutdown(socket.SHUT_RD)
    threading.Thread(target=other).start(); read(link)
ended(begin("g", closed))

def limited(link):
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 200000)); read(link)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
    read(link, lambda fd, at, count: libc.recv(fd, at, count, socket.MSG_DONTWAIT))
    fcntl.ioctl(link, termios.FIONBIO, struct.pack("i", 1)); read(link)
    fcntl.ioctl(link, termios.FIONBIO, struct.pack("i", 0)); fcntl.fcntl(link, fcntl.F_SETFL, os.O_NONBLOCK); read(link)
ended(begin("h", limited))
"""
    wanted = ["1 d", "0 ", "0 ", "ECONNRESET", "0 ", "0 ", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN"]
    assert run(host, peer, code) == wanted


def test_others_that_get_the_connection_wait_in_the_sentry(host: Any, peer: Any) -> None:
    code = """
def shared(link):
    '''A child has it as well, and a second descriptor leads to it.'''
    link.sendall(b"x")  # nobody answers any more
    other = os.dup(link.fileno())
    pid = os.fork()
    if not pid: read(link); os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(other); read(link)
pid = begin("i", shared)
control = connect()
def parked(pid):
    end = time.monotonic() + 30
    while not (children := open(f"/proc/{pid}/task/{pid}/children").read().split()):
        assert time.monotonic() < end; time.sleep(0.01)
    waits_in_sentry(children[0])
def parked_itself(pid):
    end = time.monotonic() + 30
    while open(f"/proc/{pid}/task/{pid}/children").read():
        assert time.monotonic() < end; time.sleep(0.01)
    waits_in_sentry(pid)
def waits_in_sentry(pid):
    end = time.monotonic() + 30
    while open(f"/proc/{pid}/syscall").read().split()[0] != "-1":
        assert time.monotonic() < end; time.sleep(0.01)
parked(pid); tell("data", "i"); parked_itself(pid); tell("data", "i"); ended(pid)

def switches(): return int(open("/proc/self/status").read().split("\\nvoluntary_ctxt_switches:")[1].split()[0])
taken, take = os.pipe()
def counted(link):
    import resource
    before = switches()
    for _ in range(5): read(link); os.write(take, b"x")
    say(str(switches() - before >= 5 and resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw >= switches()))
pid = begin("j", counted)
for k in range(5):
    asleep(pid); say(open(f"/proc/{pid}/wchan").read()); tell("data", "j"); os.read(taken, 1)
ended(pid)
"""
    assert run(host, peer, code) == ["1 d", "1 d", *["do_wait", "1 d"] * 5, "True"]


@pytest.mark.parametrize("victim", ["monitor", "sentry"])
def test_nobody_sleeps_on_when_a_part_is_killed(host: Any, peer: Any, victim: str) -> None:
    peer.serve(SERVER, peer.address)
    code = "pid = begin('a', read); asleep(pid); say('up'); ended(pid)"
    process = host.start(*_DO, "python3", "-uc", COMMON + code, peer.address)
    host.wait_for_text(process, "up")
    host.sessions |= set(host.children(process.pid))
    os.kill(process.pid if victim == "monitor" else host.children(process.pid)[0], signal.SIGKILL)
    host.end(process)
    host.assert_nothing_runs()


def test_a_killed_netstackd_is_a_reset_for_who_sleeps(host: Any, peer: Any) -> None:
    peer.serve(SERVER, peer.address)
    code = "pid = begin('a', read); asleep(pid); say('up'); ended(pid)"
    process = host.start(*_DO, "python3", "-uc", COMMON + code, peer.address)
    host.wait_for_text(process, "up")
    os.kill(host.children(process.pid)[2], signal.SIGKILL)
    assert host.end(process).out.split("\n")[:-1] == ["up", "ECONNRESET"]


def test_a_sandbox_whose_guest_sleeps_there_uses_no_processor(host: Any, peer: Any) -> None:
    peer.serve(SERVER, peer.address)
    code = "pid = begin('a', read); asleep(pid); say('up'); ended(pid)"
    process = host.start(*_DO, "python3", "-uc", COMMON + code, peer.address)
    host.wait_for_text(process, "up")

    def used() -> int:
        total = 0
        for pid in host.children(process.pid):
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total

    host.wait_until(lambda: _still(used), "the services are at rest")
    process.terminate()
    host.end(process)


def _still(used: Any) -> bool:
    """Whether a second passes in which less than a tenth of a processor's time is used."""
    before = used()
    time.sleep(1)
    return bool(used() - before < os.sysconf("SC_CLK_TCK") // 10)

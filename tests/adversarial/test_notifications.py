"""The host kernel's side of a fact the platform rests on: SECCOMP_IOCTL_NOTIF_RECV never blocks after a poll said there
is something, even when the caller was killed in between (systrap_platform._serve_notification)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct

RECV = 0xC0502100
GETPPID = 110


def _listening_child() -> tuple[int, int]:
    """(pid, listener): a process whose getppid(2) is a notification, and which is in that call."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.argtypes = [ctypes.c_long] * 5
        code = struct.pack(
            "<HBBIHBBIHBBIHBBI", 0x20, 0, 0, 0, 0x15, 0, 1, GETPPID, 6, 0, 0, 0x7FC00000, 6, 0, 0, 0x7FFF0000
        )
        buffer = ctypes.create_string_buffer(code, len(code))
        program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 4, ctypes.addressof(buffer)), 16)
        libc.prctl(38, 1, 0, 0, 0)
        listener = libc.syscall(317, 1, 8 | 32, ctypes.addressof(program), 0)  # NEW_LISTENER | WAIT_KILLABLE_RECV
        socket.send_fds(theirs, [b"l"], [listener])
        libc.syscall(GETPPID, 0, 0, 0, 0)
        os._exit(0)
    _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    theirs.close()
    return pid, listener


def test_recv_after_the_caller_was_killed_gives_enoent_and_does_not_block() -> None:
    for _ in range(20):
        pid, listener = _listening_child()
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        assert poll.poll(5000)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        previous = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 5)
        try:
            fcntl.ioctl(listener, RECV, bytearray(80))
        except OSError as error:
            assert error.errno == errno.ENOENT
        else:
            raise AssertionError("a notification of nobody")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            os.close(listener)

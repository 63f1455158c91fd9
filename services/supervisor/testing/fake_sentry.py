"""A Sentry without a kernel: it speaks the control channel and acts a few programs itself.

argv[0] says what the guest does:
    true, false | exit N | die N (by signal N) | echo WORDS | cat | sleep SECONDS | trap (exit 40 + n on signal n)
    view (print what the process can see of the host, as a Python literal) | gofer (the same of the Gofer)
    missing (no such program) | forbidden (not executable) | family (leaves host processes behind as guests would be)
    network (print what the socket service says, and again for each `network_restarted`)
    lose (waits for the Gofer's end, tells of it, and exits with 9)
    crash (the Sentry ends) | hang (never says ready) | config (print the configuration) | size (print window sizes)
"""

from __future__ import annotations

import array
import ast
import os
import select
import signal
import socket
import time
from typing import NoReturn

from protocol.control.config import SentryConfig, SentryFds, to_wire
from protocol.control.messages import REQUEST, TO_SENTRY, Decoder, notification, response
from protocol.control.msgpack_subset import Fd, Unpacker, pack


class FakeSentry:
    """One run. Answers requests until its program ends, then reports and waits to be killed."""

    def __init__(self, config: SentryConfig, fds: SentryFds) -> None:
        self._config = config
        self._fds = fds
        self._control = socket.socket(fileno=fds.control)
        self._decoder = Decoder(TO_SENTRY, fds=True)
        self._running = False
        self._deadline: float | None = None
        self._kept: list[int] = []
        self._program = config.argv[0].decode()
        self._arguments = [word.decode() for word in config.argv[1:]]

    def run(self) -> NoReturn:
        """Speak the protocol until killed."""
        if self._program == "hang":
            time.sleep(1000)
        if self._program == "crash":
            raise RuntimeError("the fake Sentry was told to crash")
        self._control.sendall(notification("ready"))
        if self._config.autostart:
            self._begin()
        while True:
            self._turn()

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        timeout = None if self._deadline is None else max(0, self._deadline - time.monotonic()) * 1000
        if not poll.poll(timeout):
            self._end(0)
            return
        data, ancillary, _, _ = self._control.recvmsg(4096, socket.CMSG_SPACE(64))
        if not data:
            os._exit(0)
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        for message in self._decoder.feed_untrusted(data, fds):
            assert message.kind == REQUEST
            error, result = self._answer(message.method, message.params)
            self._control.sendall(response(message.number, error, result))
            if message.method == "start" and error is None:
                self._act()

    def _answer(self, method: str, params: list[object]) -> tuple[object, object]:
        if method == "start":
            return self._exec_error(), None
        if method == "signal":
            number = params[0]
            assert isinstance(number, int)
            if not self._running:
                return [3, "no such process"], None
            self._control.sendall(notification("exited", (40 + number) << 8 if self._program == "trap" else number))
        if method == "processes":
            name = self._config.argv[0]
            row = {"pid": 1, "ppid": 0, "uid": 0, "state": "S", "cpu_ns": 0, "rss_bytes": 0, "command": name}
            return None, [row] if self._running else []
        if method == "state":
            return None, {"phase": "running" if self._running else "created", "processes": int(self._running)}
        if method == "network_restarted":
            assert isinstance(params[0], Fd)
            self._ask_network(params[0].number)
        if method == "window_size" and self._program == "size":
            self._print(f"{params[0]} {params[1]}\n")
        return None, None

    def _exec_error(self) -> list[object] | None:
        return {
            "missing": [2, "missing: no such file or directory"],
            "forbidden": [13, "forbidden: permission denied"],
        }.get(self._program)

    def _begin(self) -> None:
        error = self._exec_error()
        if error is not None:
            self._control.sendall(notification("failed", "exec", *error))
            return
        self._control.sendall(notification("started"))
        self._act()

    def _print(self, text: str) -> None:
        if self._fds.stdio[1] is not None:
            os.write(self._fds.stdio[1], text.encode())

    def _end(self, status: int) -> None:
        if self._config.report_missing:
            self._control.sendall(notification("report", "missing: frobnicate (1 call)"))
        self._control.sendall(notification("exited", status))
        self._deadline = None

    def _act(self) -> None:
        self._running = True
        words = self._arguments
        match self._program:
            case "false":
                self._end(1 << 8)
            case "exit":
                self._end(int(words[0]) << 8)
            case "die":
                self._end(int(words[0]))
            case "sleep":
                self._deadline = time.monotonic() + float(words[0])
            case "trap" | "size":
                self._print("waiting\n")
            case "network":
                assert self._fds.network is not None
                self._ask_network(self._fds.network)
            case "family":
                _make_family()
                self._print("waiting\n")
            case _:
                self._talk(words)

    def _ask_network(self, fd: int) -> None:
        """Print, as a literal in one line, the answers of the socket service and the configuration's part in it."""
        with socket.socket(fileno=fd) as link:
            answers: list[object] = []
            unpacker = Unpacker()
            link.sendall(pack([0, 1, "hello", [1, None]]) + pack([0, 2, "network", []]))
            while len(answers) < 2:
                unpacker.feed(link.recv(4096))
                while (value := unpacker.next_untrusted()) is not Unpacker.NOTHING:
                    answers.append(value[3])
            self._kept.append(link.detach())
        self._print(repr({"hello": answers[0], "network": answers[1], "files": self._config.files}) + "\n")

    def _talk(self, words: list[str]) -> None:
        match self._program:
            case "echo":
                self._print(" ".join(words) + "\n")
            case "cat":
                assert self._fds.stdio[0] is not None
                while data := os.read(self._fds.stdio[0], 4096):
                    self._print(data.decode())
            case "view":
                self._print(repr(view()) + "\n")
            case "gofer":
                link = self._gofer = socket.socket(fileno=self._fds.gofer)
                link.sendall(b"list")
                self._print(repr(ast.literal_eval(link.recv(65536).decode())) + "\n")
            case "lose":
                self._print("waiting\n")
                link = self._gofer = socket.socket(fileno=self._fds.gofer)
                link.setblocking(True)
                assert link.recv(1) == b""
                self._control.sendall(notification("files_lost"))
                self._end(9 << 8)
                return
            case "config":
                self._print(repr(to_wire(self._config)) + "\n")
        self._end(0)


def view() -> dict[str, object]:
    """What this process can see and is allowed."""
    fds = []
    for fd in range(3, 200):
        try:
            os.fstat(fd)
        except OSError:
            continue
        fds.append(fd)
    return {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "root": sorted(os.listdir("/"))[:40],
        "fds": len(fds),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "hidden_environment": "HOME" in os.environ,
    }


def _make_family() -> None:
    """Host processes as the platform's guests are: in the Sentry's process group, orphaned, deaf to everything."""
    for _ in range(2):
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.closerange(0, 100)
            if os.fork():
                os._exit(0)
            while True:
                time.sleep(1000)


def run(config: SentryConfig, fds: SentryFds) -> NoReturn:
    """The contract of services.sentry.app.run."""
    FakeSentry(config, fds).run()

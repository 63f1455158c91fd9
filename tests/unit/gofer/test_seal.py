"""The sealed gofer: what is not on its list is refused, what it needs works, and the real action kills."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.p9 import constants as c
from protocol.p9.attributes import SetAttributes
from protocol.p9.client import P9Client
from protocol.sealing.rows import Argument, Compare, Row, distinct_calls
from protocol.sealing.seal_unsafe import cached_filter, compile_filter, errno_action, seal
from services.gofer import app, host_filter
from services.gofer.testing.process import gofer_process

MARK = 3999  # an errno no kernel gives
LAST_CALL = 470
# uretprobe and uprobe: the kernel lets them past every filter, since they only work from its own trampolines
PAST_EVERY_FILTER = {335, 336}
EXIT = Row("exit_group", "the end of the child")


def in_child(body: Callable[[], int]) -> int:
    """The wait status of a forked child that runs `body`."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(body())
        except BaseException as error:
            os.write(2, f"child: {type(error).__name__}: {error}\n".encode())
            os._exit(99)
    return os.waitpid(pid, 0)[1]


def numbers_of(rows: tuple[Row, ...]) -> set[int]:
    import pyseccomp

    new = {"fchmodat2": 452, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466}
    return {new.get(name) or pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for name in distinct_calls(rows)}


@pytest.mark.parametrize("rows", [host_filter.READ_ONLY, host_filter.READ_WRITE], ids=["read-only", "read-write"])
def test_every_call_outside_the_list_is_refused(rows: tuple[Row, ...]) -> None:
    assert len(distinct_calls(rows)) <= host_filter.MAX_DISTINCT_CALLS
    assert all(row.reason for row in rows)
    allowed = numbers_of(rows)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.argtypes = [ctypes.c_long] * 7

    def body() -> int:
        seal(rows, keep_fds=(2,), landlock=(), default_action=errno_action(MARK))
        let_through = []
        for number in range(LAST_CALL + 1):
            if number not in allowed | PAST_EVERY_FILTER:
                result = libc.syscall(number, -1, -1, -1, -1, -1, -1)
                if result != -1 or ctypes.get_errno() != MARK:
                    let_through.append(number)
        for number in (0x40000000, 0x40000001, 0x40000000 | 520):  # x32
            if libc.syscall(number, -1, -1, -1, -1, -1, -1) != -1 or ctypes.get_errno() != MARK:
                let_through.append(number)
        if let_through:
            os.write(2, f"let through: {let_through}\n".encode())
        return len(let_through) and 1

    assert in_child(body) == 0


def test_restricted_arguments_are_refused() -> None:
    def body() -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.argtypes = [ctypes.c_long] * 7
        seal(host_filter.READ_WRITE, keep_fds=(1, 2), landlock=(), default_action=errno_action(MARK))
        calls = (
            (9, 0, 4096, 1 | 4, 0x22, -1, 0),  # mmap PROT_EXEC
            (1, 1, 0, 0, 0, 0, 0),  # write to another fd than 2
            (72, 2, 2, 0, 0, 0, 0),  # fcntl F_SETFD
            (452, 2, 0, 0, 0, 0, 0),  # fchmodat2 without AT_EMPTY_PATH
            (260, 2, 0, 0, 0, 0, 0),
            (280, 2, 0, 0, 0, 0, 0),
        )
        for call in calls:
            if libc.syscall(*call) != -1 or ctypes.get_errno() != MARK:
                os.write(2, f"let through: {call}\n".encode())
                return 1
        return 0

    assert in_child(body) == 0


@pytest.mark.parametrize("number", [41, 42, 56, 57, 58, 59, 62, 101, 2, 257, 165, 272, 310, 321, 425, 435], ids=str)
def test_forbidden_call_kills_the_sealed_process(number: int) -> None:
    def body() -> int:
        libc = ctypes.CDLL(None)
        libc.syscall.argtypes = [ctypes.c_long] * 7
        seal(host_filter.READ_WRITE, keep_fds=(2,), landlock=())
        libc.syscall(number, 0, 0, 0, 0, 0, 0)
        return 0

    status = in_child(body)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSYS
    assert not os.WCOREDUMP(status)


def test_seal_leaves_no_privilege_and_only_the_kept_fds() -> None:
    rows = (EXIT, *(Row(name, "test") for name in ("openat", "read", "close", "write", "prlimit64", "getdents64")))
    rows += (*(Row(name, "test") for name in ("newfstatat", "fstat", "lseek", "ioctl", "brk", "mmap", "munmap")),)

    def body() -> int:
        extra = os.dup(2)
        done = seal(rows, keep_fds=(2,), keep_capabilities={1}, default_action=errno_action(MARK))
        with open("/proc/self/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        good = [
            status["NoNewPrivs"] == "1",
            int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 2,
            int(status["CapBnd"], 16) == 2,
            int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0,
            done.capabilities == {1},
            resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
            sorted(os.listdir("/proc/self/fd")) in (["2", "3"], ["0", "2"]),
        ]
        try:
            os.write(extra, b"!")
            good.append(False)
        except OSError:
            pass
        if not all(good):
            os.write(2, f"{good} {status} {os.listdir('/proc/self/fd')}\n".encode())
        return not all(good)

    assert in_child(body) == 0


def test_landlock_confines_to_the_given_directories(tmp_path: Path) -> None:
    for name in ("rw", "ro", "no"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(b"x")
    (tmp_path / "rw" / "d").mkdir()

    def body() -> int:
        from protocol.sealing import landlock_unsafe
        from protocol.sealing.seal_unsafe import set_no_new_privs

        rules = [(os.open(tmp_path / name, os.O_PATH), name == "rw") for name in ("rw", "ro")]
        set_no_new_privs()
        assert landlock_unsafe.restrict(rules) > 0
        for path, flags, allowed in (
            ("rw/f", os.O_RDWR, True),
            ("rw/new", os.O_CREAT | os.O_WRONLY, True),
            ("ro/f", os.O_RDONLY, True),
            ("ro/f", os.O_WRONLY, False),
            ("ro/new", os.O_CREAT | os.O_WRONLY, False),
            ("no/f", os.O_RDONLY, False),
            ("rw/../no/f", os.O_RDONLY, False),
        ):
            try:
                os.close(os.open(tmp_path / path, flags))
                done = True
            except PermissionError:
                done = False
            assert done is allowed, (path, flags)
        os.rename(tmp_path / "rw" / "f", tmp_path / "rw" / "d" / "g")
        return 0

    assert in_child(body) == 0


def everything(client: P9Client) -> None:
    """Every operation once, so that a call missing from the list kills the server."""
    rw, _ = client.attach(b"rw")
    ro, _ = client.attach(b"ro")
    fid = client.new_fid()
    made = client.create(rw, fid, b"f", 2, 0o644, gid=os.getgid())
    assert made.fd is not None
    os.write(made.fd, b"donated")
    os.close(made.fd)
    assert client.read(fid, 0, 100) == b"donated"
    assert client.write(fid, 0, b"x" * 400_000) == 400_000
    assert len(client.read(fid, 0, 400_000)) == 400_000
    client.fsync(fid)
    client.fsync(fid, True)
    assert client.lock(fid, c.LOCK_TYPE_WRLCK, 0, 0, 1) == c.LOCK_SUCCESS
    assert client.getlock(fid, c.LOCK_TYPE_WRLCK, 0, 0, 1).kind == c.LOCK_TYPE_UNLCK
    client.mkdir(rw, b"d", 0o755)
    client.mknod(rw, b"p", stat.S_IFIFO | 0o600)
    client.symlink(rw, b"l", b"target")
    client.link(rw, fid, b"f2")
    client.renameat(rw, b"f2", rw, b"f3")
    client.unlinkat(rw, b"f3")
    client.setattr(fid, SetAttributes(0x1FF & ~c.SETATTR_CTIME, 0o600, os.getuid(), os.getgid(), 5, 1, 2, 3, 4))
    client.setattr(fid, SetAttributes(c.SETATTR_ATIME))
    client.xattr_set(fid, b"user.x", b"1")
    assert client.xattr_get(fid, b"user.x") == b"1"
    assert client.xattr_list(fid) == [b"user.x"]
    client.xattr_remove(fid, b"user.x")
    client.statfs(rw)
    directory = client.new_fid()
    walked = client.walkgetattr(ro, directory, [b"l"])
    assert walked.target == b"target"
    listing = client.new_fid()
    assert client.walkopen(ro, listing, [], c.L_DIRECTORY).errno == 0
    assert client.readdirattr(listing, 0, 4096, ro)[0].keys() == {b"f", b"d", b"p", b"l"}
    assert {entry.name for entry in client.readdir(listing, 0)} == {b".", b"..", b"f", b"d", b"p", b"l"}
    client.unlinkat(rw, b"d", c.UNLINK_REMOVEDIR)
    fids = []
    for _ in range(2000):
        fids.append(client.new_fid())
        assert client.walkgetattr(ro, fids[-1], [b"f"]).errno == 0
    for fid in fids:
        client.clunk(fid)
    assert client.walkopen(ro, client.new_fid(), [b"p"], 0).errno == 6


def test_sealed_gofer_does_everything_and_ends_well(tmp_path: Path) -> None:
    with gofer_process({b"rw": (str(tmp_path), False), b"ro": (str(tmp_path), True)}) as (client, pid):
        everything(client)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "CapEff:\t0000000000000000" in status


def test_sealed_gofer_serves_several_clients(tmp_path: Path) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    exports = {b"rw": (str(tmp_path), False), b"ro": (str(tmp_path), True)}
    pid = os.fork()
    if not pid:
        os._exit(app.run([theirs for _, theirs in pairs], exports))
    clients = []
    for ours, theirs in pairs:
        theirs.close()
        client = P9Client(ours, timeout_s=60)
        client.negotiate()
        clients.append(client)
    everything(clients[0])
    for client in clients:
        client.attach(b"ro")
        client.close()
    assert os.waitpid(pid, 0)[1] == 0


def test_cached_filter_is_reused_only_while_it_can_be_trusted(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    rows = (EXIT, Row("write", "test", (Argument(0, Compare.EQ, 2),)))
    program = cached_filter(rows, str(cache))
    assert program == compile_filter(rows)
    (file,) = cache.iterdir()
    file.write_bytes(b"A" * 8)
    assert cached_filter(rows, str(cache)) == b"A" * 8
    file.chmod(0o666)
    assert cached_filter(rows, str(cache)) == program
    file.write_bytes(b"A" * 7)
    assert cached_filter(rows, str(cache)) == program
    assert cached_filter((EXIT,), str(cache)) != program


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["--export", "x", "--socket-fd", "0"], 2, "not of the form"),
        (["--export", "x=/", "--socket-fd", "99"], 2, "not an open socket"),
        (["--export", "x=/nonexistent", "--socket-fd", "SOCK"], 1, "No such file"),
        (["--export", "x=/", "--socket-fd", "SOCK", "--backend", "nope"], 1, "no gofer of that name"),
    ],
)
def test_command_line_errors_are_one_line(
    argv: list[str], status: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    import subprocess

    ours, theirs = socket.socketpair()
    words = [str(theirs.fileno()) if word == "SOCK" else word for word in argv]
    command = [sys.executable, "-m", "services.gofer", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, pass_fds=[theirs.fileno()])
    ours.close()
    theirs.close()
    assert done.returncode == status
    assert says in done.stderr
    assert done.stderr.startswith("gofer: ")
    assert done.stderr.count("\n") == 1

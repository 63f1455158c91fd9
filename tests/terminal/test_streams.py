"""Standard streams of `supervisor do` that are no terminal: what passes through, what the end of each side does."""

from __future__ import annotations

import hashlib
import os
import random
import select
import signal
import socket
import subprocess
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]

BIG = 10 << 20


def output_of(done: subprocess.CompletedProcess[bytes]) -> bytes:
    assert done.stderr == b"", done.stderr
    return done.stdout


# --- statuses ---
@pytest.mark.parametrize("status", [0, 1, 2, 77, 125, 126, 127, 128, 200, 255])
def test_exit_status_is_the_commands(sandbox: Any, status: int) -> None:
    assert sandbox.run("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("name", ["HUP", "INT", "KILL", "SEGV", "TERM", "USR1"])
def test_a_commands_death_by_signal_is_128_and_its_number(sandbox: Any, name: str) -> None:
    assert sandbox.run("sh", "-c", f"kill -{name} $$; sleep 60").returncode == 128 + getattr(signal, "SIG" + name)


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_run_126(sandbox: Any) -> None:
    plain = sandbox.home / "plain"
    plain.write_text("no program\n")
    for command, status in (("no-such-command", 127), (str(plain), 126), ("/", 126), ("/nowhere/x", 127)):
        done = sandbox.run(command)
        assert done.returncode == status, (command, done)
        assert done.stdout == b""
        lines = done.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith(b"supervisor: "), done.stderr


# --- files ---
def test_a_file_as_input_is_read_from_its_offset_and_left_where_reading_ended(sandbox: Any) -> None:
    file = sandbox.home / "in"
    file.write_bytes(b"one\ntwo\nthree\nfour\n")
    with open(file, "rb", buffering=0) as opened:
        opened.seek(4)
        assert output_of(sandbox.run("sh", "-c", "read line; echo $line", stdin=opened)) == b"two\n"
        assert opened.tell() == 8
        assert output_of(sandbox.run("cat", stdin=opened)) == b"three\nfour\n"


def test_a_file_as_output_is_written_at_its_offset(sandbox: Any) -> None:
    file = sandbox.home / "out"
    file.write_bytes(b"0123456789")
    with open(file, "r+b", buffering=0) as opened:
        opened.seek(3)
        assert sandbox.run("sh", "-c", "echo -n ab; echo -n cd", stdout=opened).returncode == 0
        assert opened.tell() == 7
    assert file.read_bytes() == b"012abcd789"


def test_a_file_opened_for_appending_is_appended_to(sandbox: Any) -> None:
    file = sandbox.home / "log"
    file.write_bytes(b"before\n")
    with open(file, "ab", buffering=0) as opened:
        with open(file, "ab", buffering=0) as other:
            other.write(b"between\n")
        done = sandbox.run("sh", "-c", "echo one; echo two >&2", stdout=opened, stderr=opened)
    assert done.returncode == 0
    assert file.read_bytes() == b"before\nbetween\none\ntwo\n"


def test_output_and_errors_in_one_file_keep_their_order(sandbox: Any) -> None:
    shell = 'exec "$@" >out 2>&1'
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo o$i; echo e$i >&2; done"
    done = sandbox.shell(shell, "sh", "-c", script)
    assert done.returncode == 0
    assert (sandbox.home / "out").read_text() == "".join(f"o{i}\ne{i}\n" for i in range(1, 10))


def test_a_truncated_output_file_holds_only_what_was_written(sandbox: Any) -> None:
    (sandbox.home / "out").write_text("x" * 1000)
    assert sandbox.shell('exec "$@" >out', "echo", "short").returncode == 0
    assert (sandbox.home / "out").read_text() == "short\n"


def test_the_null_device(sandbox: Any) -> None:
    done = sandbox.shell('exec "$@" </dev/null >/dev/null 2>/dev/null', "sh", "-c", "cat; echo x; exit 4")
    assert done.returncode == 4
    assert output_of(sandbox.run("sh", "-c", "cat; stat -L -c %F /dev/stdin")) == b"character special file\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_closed_streams_are_closed_in_the_guest(sandbox: Any, closed: tuple[int, ...]) -> None:
    names = " ".join(f"{fd}<&-" if fd == 0 else f"{fd}>&-" for fd in closed)
    # The report leaves by the exit status. Not `[ -e /proc/self/fd/0 ]`: a shell may have opened something else there.
    guest = "import os, sys\nmask = 0\nfor fd in 0, 1, 2:\n try: os.fstat(fd)\n except OSError: mask |= 1 << fd\n"
    done = sandbox.shell(f'exec "$@" {names}', "python3", "-I", "-c", guest + "sys.exit(mask)")
    assert done.returncode == sum(1 << fd for fd in closed)


# --- pipes and sockets ---
def test_end_of_input_reaches_the_guest(sandbox: Any) -> None:
    process = sandbox.start("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for text in (b"first\n", b"second\n"):
        process.stdin.write(text)
        process.stdin.flush()
        assert read_line(process.stdout) == text
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait(60) == 0


def test_input_that_nobody_reads_does_not_keep_the_sandbox(sandbox: Any) -> None:
    process = sandbox.start("true", stdin=subprocess.PIPE)
    assert process.wait(60) == 0


def test_a_guests_pipe_is_full_until_it_is_read(sandbox: Any) -> None:
    process = sandbox.start(
        "sh", "-c", "head -c 1000000 /dev/zero; echo done >&2", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert select.select([process.stdout], [], [], 60)[0]
    assert not select.select([process.stderr], [], [], 0.5)[0], "it wrote more than a pipe holds"
    assert len(process.stdout.read()) == 1000000
    assert process.stderr.read() == b"done\n"
    assert process.wait(60) == 0


@pytest.mark.parametrize("kind", ["pipe", "socket", "file"])
def test_ten_megabytes_pass_through_both_directions_unchanged(sandbox: Any, kind: str) -> None:
    data = random.Random(1).randbytes(BIG)
    source, sink = sandbox.home / "source", sandbox.home / "sink"
    source.write_bytes(data)
    if kind == "file":
        with open(source, "rb") as given, open(sink, "wb") as taken:
            assert sandbox.run("cat", stdin=given, stdout=taken, timeout=120).returncode == 0
        got = sink.read_bytes()
    elif kind == "pipe":
        got = output_of(sandbox.run("cat", input=data, timeout=120))
    else:
        ours, theirs = socket.socketpair()
        process = sandbox.start("cat", stdin=theirs, stdout=theirs)
        theirs.close()
        got = exchange(ours, data)
        assert process.wait(60) == 0
    assert len(got) == len(data)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def exchange(ours: socket.socket, data: bytes) -> bytes:
    """Send all of `data`, shut that direction down, and read to the end of the other."""
    ours.setblocking(False)
    left, got = memoryview(data), bytearray()
    deadline = time.monotonic() + 120
    with ours:
        while True:
            assert time.monotonic() < deadline, (len(left), len(got))
            readable, writable, _ = select.select([ours], [ours] if left else [], [], 1)
            if writable:
                left = left[ours.send(left[:65536]) :]
                if not left:
                    ours.shutdown(socket.SHUT_WR)
            if readable:
                part = ours.recv(65536)
                if not part:
                    return bytes(got)
                got += part


def read_line(stream: Any) -> bytes:
    assert select.select([stream], [], [], 60)[0]
    line: bytes = stream.readline()
    return line


def test_the_end_of_the_reader_ends_the_writer_with_sigpipe(sandbox: Any) -> None:
    process = sandbox.start("bash", "-c", "yes; exit $?", stdout=subprocess.PIPE, restore_signals=True)
    assert read_line(process.stdout) == b"y\n"
    process.stdout.close()
    assert process.wait(60) == 128 + signal.SIGPIPE


def test_a_first_process_whose_reader_went_ends_too(sandbox: Any) -> None:
    process = sandbox.start("yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=True)
    assert read_line(process.stdout) == b"y\n"
    process.stdout.close()
    assert process.wait(60) == 128 + signal.SIGPIPE, process.stderr.read()


def test_a_shells_pipeline_with_sandboxes_in_it(sandbox: Any) -> None:
    script = (
        'seq 1 1000 | "$@" sort -rn | head -3; "$@" yes | head -1; echo ${PIPESTATUS[0]}; '
        'echo $("$@" echo in a substitution); echo fed | "$@" cat - ; "$@" false || echo failed'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *sandbox.command],
        cwd=sandbox.home,
        env=sandbox.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == b"1000\n999\n998\ny\n141\nin a substitution\nfed\nfailed\n", done
    assert done.stderr == b""


def test_the_hosts_descriptors_stay_blocking(sandbox: Any) -> None:
    reader, writer = os.pipe()
    in_reader, in_writer = os.pipe()
    process = sandbox.start("cat", stdin=in_reader, stdout=writer)
    os.write(in_writer, b"x")
    assert select.select([reader], [], [], 60)[0]
    assert os.read(reader, 1) == b"x"
    for fd in (reader, writer, in_reader, in_writer):
        assert os.get_blocking(fd)
    os.close(in_writer)
    assert process.wait(60) == 0
    for fd in (reader, writer, in_reader):
        os.close(fd)


# --- signals ---
TRAP = 'trap "echo got %s; exit 40" %s; echo ready; while :; do sleep 0.05; done'


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1", "USR2", "QUIT"])
def test_signals_to_the_supervisor_reach_the_command(sandbox: Any, name: str) -> None:
    process = sandbox.start("bash", "-c", TRAP % (name, name), stdout=subprocess.PIPE)
    assert read_line(process.stdout) == b"ready\n"
    process.send_signal(getattr(signal, "SIG" + name))
    assert process.stdout.read() == b"got %s\n" % name.encode()
    assert process.wait(60) == 40


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_handles_no_signals_ends_by_one(sandbox: Any, number: signal.Signals) -> None:
    process = sandbox.start("sh", "-c", "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
    assert read_line(process.stdout) == b"ready\n"
    process.send_signal(number)
    assert process.wait(60) == 128 + number


def test_killing_the_supervisor_ends_all_of_it(sandbox: Any) -> None:
    process = sandbox.start("sh", "-c", "echo ready; sleep 1000", stdout=subprocess.PIPE)
    assert read_line(process.stdout) == b"ready\n"
    process.kill()
    process.wait(60)
    assert process.stdout.read() == b""  # nobody holds the other end
    sandbox.wait_until_nothing_runs()


def test_nothing_is_left_when_the_command_leaves_children(sandbox: Any) -> None:
    started = time.monotonic()
    done = sandbox.run("sh", "-c", "sleep 1000 & sleep 1000 & echo out")
    assert done.stdout == b"out\n" and done.returncode == 0
    assert time.monotonic() - started < 100
    sandbox.wait_until_nothing_runs()


def test_ignored_and_blocked_signals_are_inherited(sandbox: Any) -> None:
    def prepare() -> None:
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1, signal.SIGCHLD})

    done = sandbox.run("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status", preexec_fn=prepare)
    assert done.stdout.split() == [b"SigBlk:", b"%016x" % (1 << 9 | 1 << 16), b"SigIgn:", b"%016x" % (1 | 2 | 1 << 19)]
    done = sandbox.run("sh", "-c", "kill -HUP $$; kill -INT $$; echo alive", preexec_fn=prepare)
    assert done.stdout == b"alive\n"

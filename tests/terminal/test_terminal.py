"""`supervisor do -- bash` at a terminal is a usable shell: the same session on the host and in the sandbox."""

from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]

Session = Callable[[Any], object]


@pytest.fixture
def both(bash: Any) -> Callable[[Session], Any]:
    """Runs a session in the host's bash and in the sandbox's; both must give the same, which is returned."""

    def run(session: Session) -> Any:
        results = [session(bash(sandbox=where)) for where in (False, True)]
        assert results[1] == results[0]
        return results[1]

    return run


def wait_for(console: Any, line: str, wanted: str) -> str:
    """Repeat a command at the prompt until it shows what is wanted."""
    deadline = time.monotonic() + 60
    while True:
        shown: str = console.run(line)
        if re.search(wanted, shown):
            return shown
        assert time.monotonic() < deadline, f"{line}: {shown!r}"


#: Foreground jobs that say when they have the terminal.
SLEEP = "sh -c 'echo ready; exec sleep 1000'"
CAT = "sh -c 'echo ready; exec cat'"


# --- the prompt ---
def test_prompt_and_echo(both: Any) -> None:
    def session(console: Any) -> object:
        shown = console.run("echo hello; echo error >&2; false")
        return shown, console.run("echo $?"), console.text

    assert both(session)[:2] == ("hello\nerror\n", "1\n")


def test_line_editing_and_history(both: Any) -> None:
    def session(console: Any) -> object:
        found = [console.run("echo wrong\x7f\x7f\x7f\x7f\x7fright")]
        found.append(console.run("cho x\x01e\x05y"))  # to the start, to the end
        found.append(console.run("echo one two\x17three"))  # erase a word
        found.append(console.run("\x1b[A"))  # the line before
        found.append(console.run("\x12right\x12"))  # searched for
        return found, console.text

    found, _ = both(session)
    assert found == ["right\n", "xy\n", "one three\n", "one three\n", "right\n"]


def test_completion_of_file_names(both: Any, home: Path) -> None:
    (home / "a-rather-long-name").write_text("found\n")
    assert both(lambda console: console.run("cat a-ra\t")) == "found\n"


def test_end_of_input_at_the_prompt_ends_the_shell(both: Any) -> None:
    def session(console: Any) -> object:
        console.run("(exit 9)")
        console.send("\x04")
        status = console.wait()
        return status, console.text

    assert both(session)[0] == 9


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exit_status_after_exit(both: Any, status: int) -> None:
    def session(console: Any) -> object:
        console.send(f"exit {status}\r")
        return console.wait()

    assert both(session) == status


# --- signals and jobs ---
def test_interrupt_at_the_prompt_gives_a_new_one(bash: Any) -> None:
    console = bash()
    console.send("some words")
    console.expect_text("some words")
    assert "^C" in console.press("\x03", at_prompt=True)
    assert console.run("echo $?") == "130\n"


@pytest.mark.parametrize(("key", "status"), [("\x03", "130\n"), ("\x1c", "131\n")])
def test_keys_end_the_foreground_command(both: Any, key: str, status: str) -> None:
    def session(console: Any) -> object:
        console.start(SLEEP)
        console.press(key)
        return console.run("echo $?"), console.run("jobs")

    assert both(session) == (status, "")


def test_interrupt_ends_every_part_of_a_pipeline(both: Any) -> None:
    def session(console: Any) -> object:
        console.start(f"sleep 1000 | sleep 1000 | {SLEEP}")
        console.press("\x03")
        return console.run("echo ${PIPESTATUS[*]}"), console.run("jobs")

    assert both(session) == ("130 130 130\n", "")


def test_a_suspended_job_goes_on_in_the_background(both: Any) -> None:
    def session(console: Any) -> object:
        console.start(SLEEP)
        console.press("\x1a")
        found = [console.run("echo $?"), console.run("jobs"), console.run("bg"), console.run("jobs")]
        console.run("kill %1; wait")
        return found

    found = both(session)
    assert found[0] == "148\n"
    assert "Stopped" in found[1] and "Running" in found[3]


def test_a_suspended_job_goes_on_in_the_foreground(both: Any) -> None:
    def session(console: Any) -> object:
        console.start(CAT)
        for word in ("one", "two"):
            console.press("\x1a")
            console.send("fg\r")
            console.expect(r"exec cat'\r\n")
            console.send(f"{word}\r")
            console.expect(f"{word}\r\n{word}\r\n")
        console.press("\x1a")
        jobs = console.run("jobs")
        console.run("kill %1; fg")
        return jobs, console.run("jobs")

    both(session)


def test_a_job_in_the_background_that_reads_is_stopped_until_it_may(bash: Any) -> None:
    for where in (False, True):
        console = bash(sandbox=where)
        console.run("cat &")
        wait_for(console, "jobs", r"Stopped +cat")
        console.send("fg\r")
        console.expect(r"[\r\n]cat\r\n")
        console.send("to the job\r")
        console.expect("to the job\r\nto the job\r\n")
        console.send("\x04")
        console.prompt()
        assert console.run("jobs; echo $?") == "0\n"


def test_a_job_in_the_background_that_writes_is_stopped_with_tostop(bash: Any) -> None:
    console = bash()
    console.run("stty tostop")
    console.run("(echo written) &")
    wait_for(console, "jobs", r"Stopped +\( echo written \)")
    console.send("fg\r")
    console.expect("\nwritten\r\n")
    console.prompt()


def test_hangup_of_the_terminal_ends_the_session(home: Path, bash: Any) -> None:
    console = bash()
    console.run("(trap 'echo hung up >note; exit' HUP; while :; do sleep 0.1; done) &")
    os.close(console.master)
    console.master = os.open("/dev/null", os.O_RDWR)
    assert console.process.wait(60) in (128 + signal.SIGHUP, 0, 1)


# --- what programs see of the terminal ---
def test_the_terminal_has_a_name_and_a_size(bash: Any) -> None:
    console = bash(rows=31, columns=97)
    name = console.run("tty").strip()
    assert re.fullmatch(r"/dev/pts/\d+", name)
    assert console.run("stty size") == "31 97\n"
    assert console.run("ps -o tty= -p $$").strip() == name.removeprefix("/dev/")
    assert console.run("test -t 0 -a -t 1 -a -t 2 && echo yes") == "yes\n"
    assert console.run("echo there >/dev/tty") == "there\n"
    assert console.run(f"ls {name}") == f"{name}\n"
    assert console.run("tput cols; tput lines") == "97\n31\n"


def test_stty_shows_the_same_modes(both: Any) -> None:
    both(lambda console: console.run("stty -a"))


def test_a_new_size_of_the_window_is_told(bash: Any) -> None:
    for where in (False, True):
        console = bash(sandbox=where)
        console.start("sh -c 'trap \"stty size\" WINCH; echo ready; while :; do sleep 0.1; done'")
        console.resize(41, 120)
        console.expect(r"^41 120\r\n")
        console.press("\x03")
        assert console.run("stty size") == "41 120\n"


def test_a_password_is_read_without_echo(both: Any) -> None:
    def session(console: Any) -> object:
        console.start("stty -echo; echo ready; head -n 1 >word; stty echo; cat word")
        console.send("hidden\r")
        shown = [console.prompt()]
        console.send("read -r -s -p 'Sec''ret: ' word; echo; echo got $word\r")
        console.expect_text("Secret: ")
        console.send("hidden\r")
        return [*shown, console.prompt()]

    assert [shown.count("hidden") for shown in both(session)] == [1, 1]


def test_raw_mode_delivers_every_byte(bash: Any) -> None:
    console = bash()
    console.start("stty raw -echo; echo; echo ready; head -c 256 | od -An -v -tu1 -w256; stty sane")
    console.send(bytes(range(256)))
    shown = console.prompt()
    assert [int(word) for word in re.findall(r"\b\d+\b", re.sub(r"\x1b\S*", "", shown))] == list(range(256))


def test_canonical_editing_of_a_program_that_has_none(both: Any) -> None:
    def session(console: Any) -> object:
        console.start("echo ready; cat -v; echo over")
        console.send("abc\x7f\x7fde fg\x17x\x16\x03y\r")
        shown = console.expect(r"^ade x\^Cy\r\n")
        console.send("gone\x15kept\r")
        shown += console.expect("kept\r\n.*kept\r\n")
        console.send("half\x04")  # hands over what is there
        shown += console.expect("halfhalf")
        console.send("\x04\x04")
        return shown, console.prompt()

    both(session)


# --- programs ---
def test_script_records_a_session(both: Any, home: Path) -> None:
    def session(console: Any) -> object:
        shown = console.run(
            "script -q -e -c 'echo inside; stty size; test -t 0 && echo terminal; exit 6' file; echo $?"
        )
        return shown, console.run("grep -v Script file").replace("\r", "")

    assert both(session)[0] == "inside\n24 80\nterminal\n6\n"


def test_jobs_inside_script(bash: Any) -> None:
    for where in (False, True):
        console = bash(sandbox=where)
        outer = console.run("tty")
        console.send("script -q -e -c 'bash --norc --noprofile -i' file\r")
        console.prompt()
        assert console.run("tty") != outer
        console.start(CAT)
        console.press("\x1a")
        assert "Stopped" in console.run("jobs")
        console.send("fg\r")
        console.expect(r"exec cat'\r\n")
        console.send("back\r")
        console.expect("back\r\nback\r\n")
        console.press("\x03")
        assert console.run("echo $?") == "130\n"
        # Not at the prompt, which readline draws again when the size changes.
        console.start("echo ready; until stty size | grep '50 132'; do sleep 0.1; done")
        console.resize(50, 132)
        assert "50 132" in console.prompt()
        console.send("exit 4\r")
        console.prompt()
        assert console.run("echo $?; tty") == f"4\n{outer}"


def test_less_searches_and_quits(both: Any) -> None:
    def session(console: Any) -> object:
        console.run("seq 1 1000 >numbers")
        console.send("less numbers\r")
        console.expect(r"23\r\n.*numbers")
        console.send("/777\r")
        found = "799" in console.expect(r"799.*:")
        console.send("q")
        console.prompt()
        return found, console.run("echo $?")

    assert both(session) == (True, "0\n")


def test_vi_edits_and_writes(both: Any) -> None:
    def session(console: Any) -> object:
        console.run("rm -f note; printf 'first\\nlast\\n' >note")
        console.send("vi -u NONE note\r")
        console.expect("last")
        console.send("onew line\x1b")
        console.expect("new line")
        console.send(":wq\r")
        console.expect("written")
        console.prompt()
        return console.run("cat note; echo $?")

    assert both(session) == "first\nnew line\nlast\n0\n"


def test_top(bash: Any) -> None:
    console = bash()
    shown = console.run("top -b -n 1")
    assert re.search(r"^ *PID USER", shown, re.MULTILINE)
    assert re.search(r"^ *1 root .* bash$", shown, re.MULTILINE)
    console.send("top\r")
    console.expect("COMMAND")
    console.expect("bash")
    console.send("q")
    console.prompt()
    assert console.run("echo $?; stty -a | grep -c 'isig icanon'") == "0\n1\n"


def test_pythons_repl_and_pty_module(bash: Any) -> None:
    console = bash()
    console.send("python3 -I -q\r")
    console.expect(">>> ")
    console.send("6 * 7\r")
    console.expect("\n42\r\n")
    console.expect(">>> ")
    console.send("import pty, os, time\r")
    console.expect(">>> ")
    console.send("os.waitstatus_to_exitcode(pty.spawn(['sh', '-c', 'test -t 1; echo in $(tty); exit 3']))\r")
    assert re.search(r"in /dev/pts/\d+\r\n3\r\n", console.expect(">>> "))
    # Python looks for signals before it calls sleep, and not again: the host lost 5 of 757 keys there.
    console.send("""exec("print('rea' + 'dy', flush=True)\\nwhile True: time.sleep(0.1)")\r""")
    console.expect("^ready")
    console.send("\x03")
    console.expect("KeyboardInterrupt.*>>> ")
    console.send("\x04")
    console.prompt()


# --- much at once ---
def test_a_large_paste_arrives_whole(bash: Any, home: Path) -> None:
    lines = "".join(f"{number:06d} {'x' * 40}\n" for number in range(2100))
    assert len(lines) > 100_000
    console = bash()
    console.start("stty -echo; echo ready; cat >pasted; stty echo; md5sum pasted; wc -c pasted")
    console.send(lines + "\x04")
    shown = console.prompt()
    assert f"{len(lines)} pasted" in shown, shown
    assert hashlib.md5(lines.encode()).hexdigest() in shown


def test_a_large_paste_with_echo_arrives_whole(bash: Any) -> None:
    lines = "".join(f"{number:06d} {'y' * 40}\n" for number in range(2100))
    console = bash()
    console.start("echo ready; cat >pasted; wc -c pasted")
    console.send(lines + "\x04")
    assert f"{len(lines)} pasted" in console.prompt()


def test_a_flood_of_output_with_a_slow_reader(bash: Any, home: Path) -> None:
    console = bash()
    console.send(
        "(while :; do echo . ; sleep 0.1; done >/dev/null) & yes 'a line of output' | head -200000; echo over\r"
    )
    console.expect("a line")
    time.sleep(2)  # nobody reads: the pipeline stands still, and nothing else does
    console.expect(r"\nover\r\n")
    console.prompt()
    assert console.text.count("a line of output\r\n") == 200_000
    assert "Running" in console.run("jobs")
    console.run("kill %1")


def test_interrupt_ends_a_flood(bash: Any) -> None:
    console = bash()
    console.send("yes\r")
    console.expect("y\r\ny\r\n")
    console.press("\x03")
    assert console.run("echo $?") == "130\n"


def test_output_stops_and_starts(bash: Any) -> None:
    console = bash()
    # The pause is a builtin's: when a child such as sleep(1) ends by itself just as ^C comes, bash takes the key as the
    # child's and goes on with its loop (on the host 7 of 248 such keys).
    console.send("i=0; while :; do echo $((i++)); read -t 0.01; done\r")
    console.expect(r"\n20\r\n")
    console.send("\x13")
    deadline = time.monotonic() + 30
    while select.select([console.master], [], [], 1)[0]:
        os.read(console.master, 4096)
        assert time.monotonic() < deadline, "output did not stop"
    console.send("\x11")
    console.expect(r"\d+\r\n\d+\r\n")
    console.press("\x03")


# --- the caller's terminal ---
def test_modes_are_restored_at_the_end(bash: Any) -> None:
    console = bash()
    assert termios.tcgetattr(console.master) != console.modes
    console.run("stty raw -echo 2>/dev/null; stty sane; stty -echo")
    console.send("exit\r")
    assert console.wait() == 0
    assert termios.tcgetattr(console.master) == console.modes


def test_modes_are_restored_when_a_signal_ends_the_sandbox(console: Any) -> None:
    started = console("sh", "-c", "stty -echo; echo ready; exec cat")
    started.expect("ready")
    assert termios.tcgetattr(started.master) != started.modes
    started.process.send_signal(signal.SIGHUP)
    assert started.wait() == 128 + signal.SIGHUP
    assert termios.tcgetattr(started.master) == started.modes


def test_modes_are_restored_when_the_sentry_is_killed(bash: Any) -> None:
    console = bash()
    console.run("stty -echo")
    os.kill(sentry_of(console.process.pid), signal.SIGKILL)
    assert console.wait() == 125
    assert termios.tcgetattr(console.master) == console.modes
    assert "supervisor: sandbox: the Sentry ended unexpectedly: killed by signal 9" in console.text


def sentry_of(monitor: int) -> int:
    """The service with children: the guest's processes."""
    found = [pid for pid in children(monitor) if children(pid)]
    assert len(found) == 1, found
    return found[0]


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_command_without_a_shell_takes_the_keys(console: Any) -> None:
    started = console("cat")
    started.send("line\r")
    started.expect("line\r\nline\r\n")
    started.send("\x03")
    assert started.wait() == 128 + signal.SIGINT
    assert termios.tcgetattr(started.master) == started.modes


def test_terminal_and_file_at_once(bash: Any, words: str) -> None:
    host = bash(sandbox=False)
    command = words
    assert host.run(f"{command} sh -c 'test -t 0 && test -t 2 && echo to the file; echo to the screen >&2' >out") == (
        "to the screen\n"
    )
    assert host.run("cat out") == "to the file\n"
    assert host.run(f"echo piped | {command} sh -c 'cat; test -t 0 || echo none; stty size </dev/tty'") == (
        "piped\nnone\n24 80\n"
    )
    assert host.run("stty -a | grep -c 'isig icanon iexten echo '") == "1\n"


# --- a sandbox as a job of the host's shell ---
def test_a_sandbox_is_a_job_in_the_background(bash: Any, words: str) -> None:
    host = bash(sandbox=False)
    host.run(f"{words} sh -c 'echo written by the job; exit 5' & wait $!; echo $? >status")
    assert "written by the job" in host.text
    assert host.run("cat status") == "5\n"
    assert host.run("stty -a | grep -c 'isig icanon iexten echo '") == "1\n"


def test_a_sandbox_in_the_background_that_reads_is_stopped_until_it_may(bash: Any, words: str) -> None:
    host = bash(sandbox=False)
    host.run(f"{words} sh -c 'read -r line; echo it read $line; read -r line; stty size; exit 5' &")
    wait_for(host, "jobs", r"Stopped")
    host.run("bg")
    wait_for(host, "jobs", r"Stopped")
    host.resize(30, 90)
    host.send("fg\r")
    host.expect(r"exit 5'\r\n")
    host.send("a line\r")
    host.expect("it read a line\r\n")
    host.send("\r")
    host.expect("30 90\r\n")
    host.prompt()
    assert host.run("echo $?") == "5\n"
    assert host.run("stty -a | grep -c 'isig icanon iexten echo '") == "1\n"


def test_a_running_job_brought_to_the_foreground_hears_the_keys(bash: Any, words: str) -> None:
    host = bash(sandbox=False)
    host.run(f"{words} sh -c 'echo ready >ready; sleep 1000' --rw & echo")
    host.send("fg\r")
    host.expect(r"[\r\n].*sleep 1000.*\r\n")
    assert host.process.poll() is None
    host.shows("never", 3)
    host.press("\x03")
    assert host.run("echo $?; jobs") == "130\n"


def test_suspend_inside_the_sandbox_is_the_guests(bash: Any, words: str) -> None:
    host = bash(sandbox=False)
    host.send(f"PS1='in''side> ' {words} bash --norc --noprofile -i\r")
    host.expect_text("inside> ")
    host.send(SLEEP + "\r")
    host.expect("ready\r\n")
    host.send("\x1a")
    host.expect_text("inside> ")
    host.send("jobs\r")
    host.expect("Stopped.*inside> ")
    host.send("kill %1; exit 3\r")
    host.prompt()
    assert host.run("echo $?; jobs") == "3\n"

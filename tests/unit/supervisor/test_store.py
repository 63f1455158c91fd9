"""What is on disk about containers, and the table of states."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.supervisor.container.states import ALLOWED, TRANSITIONS, Event, Status, after, check
from services.supervisor.container.store import ProcessId, Record, Store
from services.supervisor.errors import SupervisorError


def record(name: str = "c1", pid: int | None = None) -> Record:
    return Record(name, "/bundle", {"a": "b"}, ProcessId.of(os.getpid() if pid is None else pid))


def test_every_pair_of_state_and_event_is_decided() -> None:
    for status in Status:
        for event in Event:
            if (status, event) in TRANSITIONS:
                assert after(status, event) is TRANSITIONS[status, event]
            else:
                with pytest.raises(ValueError, match="cannot be"):
                    after(status, event)
    assert not [pair for pair in TRANSITIONS if pair[0] is Status.STOPPED]


def test_verbs_are_refused_in_the_wrong_state() -> None:
    for verb, allowed in ALLOWED.items():
        for status in Status:
            if status in allowed:
                check(verb, "c1", status)
            else:
                with pytest.raises(SupervisorError, match=f"cannot {verb}"):
                    check(verb, "c1", status)


def test_record_survives_the_disk(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state"))
    made = record()
    made.processes = {"sentry": ProcessId(1, 2)}
    made.poststop = [["/x", ["x"], ["A=b"], 3]]
    store.create(made)
    made.status = Status.RUNNING
    store.save(made)
    read = store.load("c1")
    assert read.to_json() == made.to_json()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create(record())
    with pytest.raises(SupervisorError, match="c1"):
        store.create(record())
    assert os.listdir(tmp_path) == ["c1"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x/..", "a b", "\n", "é", "x" * 201, ".hidden"])
def test_ids_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(SupervisorError):
        Store(str(tmp_path)).directory(name)


def test_dead_monitor_means_stopped(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    made = record(pid=child.pid)
    made.status = Status.RUNNING
    store.create(made)
    assert store.load("c1").status is Status.RUNNING
    child.kill()
    assert child.wait() == -9
    assert store.load("c1").status is Status.STOPPED
    assert child.stdin is not None
    child.stdin.close()


def test_recycled_pid_is_not_mistaken(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    made = record()
    made.monitor = ProcessId(os.getpid(), made.monitor.start + 1)
    made.status = Status.RUNNING
    store.create(made)
    assert store.load("c1").status is Status.STOPPED
    made.monitor.kill()  # would end this test run if it were mistaken


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sentrio": {}}', '{"sentrio": {"monitor": [1]}}', "\udc80"])
def test_broken_state_file_is_a_stopped_container(tmp_path: Path, text: str) -> None:
    store = Store(str(tmp_path))
    store.create(record())
    (tmp_path / "c1" / "state.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert [(found.id, found.status) for found in store.list()] == [("c1", Status.STOPPED)]
    store.remove("c1")
    assert store.list() == []


def test_what_a_killed_creator_left_is_swept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dead = tmp_path / ".new-999999999-5"
    dead.mkdir()
    alive = tmp_path / f".new-{os.getpid()}-{ProcessId.of(os.getpid()).start}-removed"
    alive.mkdir()
    assert store.list() == []
    store.create(record())
    assert not dead.exists()
    assert alive.exists()


def test_a_writer_killed_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from services.supervisor.container.store import *\n"
        "store = Store(sys.argv[1])\n"
        "record = Record('c1', '/b', {'a': 'x' * 5000}, ProcessId.of(os.getppid()))\n"
        "store.create(record)\n"
        "print('go', flush=True)\n"
        "while True:\n"
        "    record.exit_status = (record.exit_status or 0) + 1\n"
        "    store.save(record)\n"
    )
    store = Store(str(tmp_path))
    for turn in range(6):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        for _ in range(turn * 20):
            assert store.load("c1").bundle == "/b"
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert store.load("c1").annotations == {"a": "x" * 5000}
        store.remove("c1")


def test_unusable_state_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SupervisorError, match="file"):
        Store(str(tmp_path / "file" / "x")).create(record())
    assert Store(str(tmp_path / "nothing")).list() == []

"""OCI bundles on a static busybox root: every field of config.json that is honoured, and the life cycle."""

from __future__ import annotations

import array
import json
import os
import select
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

CHOWN, KILL, NET_BIND = 0, 5, 10


def mount(kind: str, destination: str, *options: str, source: str = "") -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}


def test_up_gives_output_and_exit_status(any_host: Any, busybox_root: Path) -> None:
    done = any_host("up", str(any_host.bundle(busybox_root, "sh", "-c", "echo hello; exit 9")), status=9)
    assert done.out == "hello\n"
    assert done.said == [], done
    assert any_host.listed() == {}
    any_host.assert_nothing_runs()


def test_surroundings_of_the_program(host: Any, busybox_root: Path) -> None:
    process = {
        "env": ["PATH=/bin", "A=b c", "EMPTY="],
        "cwd": "/data",
        "user": {"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 7]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "noNewPrivileges": True,
        "oomScoreAdj": 123,
    }
    script = (
        'hostname; echo "$A|$EMPTY|"; pwd; id; umask; ulimit -Sn; ulimit -Hn; ulimit -c;'
        " grep -E '^(NoNewPrivs|Groups|CapEff)' /proc/self/status; cat /proc/self/oom_score_adj; echo $$"
    )
    bundle = host.bundle(busybox_root, "sh", "-c", script, process=process, hostname="box")
    assert host("up", str(bundle)).out.splitlines() == [
        "box",
        "b c||",
        "/data",
        "uid=1000(user) gid=1001 groups=5,7",
        "0027",
        "77",
        "99",
        "0",
        "Groups:\t5 7 ",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "123",
        "1",
    ]


def test_capabilities_are_those_of_the_bundle(host: Any, busybox_root: Path) -> None:
    names = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    capabilities = {
        "bounding": names,
        "permitted": names[:2],
        "effective": names[:1],
        "inheritable": names[1:2],
        "ambient": [],
    }
    process = {"capabilities": capabilities, "user": {"uid": 0, "gid": 0}}
    bundle = host.bundle(busybox_root, "grep", "^Cap", "/proc/self/status", process=process)
    # execve(2) by uid 0 without securebits: permitted is inheritable and bounding together (capabilities(7)).
    masks = {line.split()[0]: int(line.split()[1], 16) for line in host("up", str(bundle)).out.splitlines()}
    assert masks["CapInh:"] == 1 << KILL
    assert masks["CapBnd:"] == 1 << CHOWN | 1 << KILL | 1 << NET_BIND
    assert masks["CapAmb:"] == 0
    assert masks["CapPrm:"] & ~masks["CapBnd:"] == 0


def test_root_is_read_only_when_asked(host: Any, busybox_root: Path) -> None:
    script = "echo x > /data/file; echo $?; grep -c ' / .*ro' /proc/mounts"
    bundle = host.bundle(busybox_root, "sh", "-c", script, readonly=True)
    done = host("up", str(bundle))
    assert done.out.split()[0] != "0"
    assert "Read-only file system" in done.err
    assert not (busybox_root / "data/file").exists()


def test_root_is_written_in_memory_or_through(host: Any, busybox_root: Path) -> None:
    script = "echo x > /tmp/through; cat /tmp/through"
    assert host("up", str(host.bundle(busybox_root, "sh", "-c", script))).out == "x\n"
    assert not (busybox_root / "tmp/through").exists()
    root = host.home / "own-root"
    (root / "tmp").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "proc").mkdir()
    shutil.copy(busybox_root / "bin/busybox", root / "bin/busybox")
    annotations = {"io.sentrio.root": "write-through"}
    bundle = host.bundle(root, "/bin/busybox", "sh", "-c", "echo x > /tmp/through", annotations=annotations)
    host("up", str(bundle))
    assert (root / "tmp/through").read_text() == "x\n"


def test_bind_mounts_read_only_and_writable(any_host: Any, busybox_root: Path) -> None:
    shared, fixed = any_host.home / "shared", any_host.home / "fixed"
    for path in (shared, fixed):
        path.mkdir()
        path.chmod(0o777)
        (path / "there").write_text(path.name)
    single = any_host.home / "single"
    single.write_text("one file\n")
    mounts = [
        mount("bind", "/shared", "rbind", "rw", source=str(shared)),
        mount("bind", "/made/for/it", "bind", "ro", source=str(fixed)),
        mount("bind", "/etc/single", "bind", "ro", source=str(single)),
    ]
    user = {"uid": 12_345, "gid": 12_345} if any_host.kind == "user" else {"uid": 0, "gid": 0}
    script = (
        "cat /shared/there /made/for/it/there /etc/single; echo new > /shared/new;"
        " echo x > /made/for/it/x; echo $?; mkdir /shared/dir; mv /shared/new /shared/dir/renamed"
    )
    bundle = any_host.bundle(busybox_root, "sh", "-c", script, mounts=mounts, process={"user": user})
    done = any_host("up", str(bundle))
    assert done.out == "sharedfixedone file\n1\n", done
    assert "Read-only file system" in done.err
    assert (shared / "dir/renamed").read_text() == "new\n"
    assert not (fixed / "x").exists()


def test_volumes_of_do(any_host: Any) -> None:
    shared, fixed = any_host.home / "shared", any_host.home / "fixed"
    for path in (shared, fixed):
        path.mkdir()
        path.chmod(0o777)
        (path / "there").write_text(path.name + "\n")
    script = "cat /mnt/a/there /mnt/b/there; echo x > /mnt/a/new; echo x > /mnt/b/new; echo $?"
    done = any_host("do", "-v", f"{shared}:/mnt/a", "-v", f"{fixed}:/mnt/b:ro", "--", "sh", "-c", script)
    assert done.out.split()[:2] == ["shared", "fixed"], done
    assert done.out.split()[2] != "0"
    assert (shared / "new").read_text() == "x\n"
    assert not (fixed / "new").exists()


def test_file_systems_of_the_kernel(host: Any, busybox_root: Path) -> None:
    mounts = [
        mount("tmpfs", "/dev", "nosuid", "mode=755"),
        mount("devpts", "/dev/pts", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("tmpfs", "/scratch", "nosuid", "size=65536", "mode=1777"),
        mount("sysfs", "/sys", "nosuid", "ro"),
    ]
    script = (
        "dd if=/dev/zero of=/scratch/a bs=1k count=40 2>/dev/null; echo $?;"
        " dd if=/dev/zero of=/scratch/b bs=1k count=90; echo $?;"
        " stat -c %a /scratch; ls /dev/null /dev/pts/ptmx; ls -d /sys/devices; mkdir /sys/x; echo $?;"
        " grep -c . /proc/mounts; awk '$2 == \"/scratch\" {print $3}' /proc/mounts"
    )
    done = host("up", str(host.bundle(busybox_root, "sh", "-c", script, mounts=mounts)))
    words = done.out.split()
    assert words[0] == "0" and words[1] != "0", done
    assert words[2:6] == ["1777", "/dev/null", "/dev/pts/ptmx", "/sys/devices"], done
    assert words[6] == "1" and int(words[7]) >= 6 and words[8] == "tmpfs", done
    assert "No space left on device" in done.err


def test_masked_and_read_only_paths(host: Any, busybox_root: Path) -> None:
    linux = {"maskedPaths": ["/etc/secret", "/data", "/no/such"], "readonlyPaths": ["/proc/sys", "/tmp"]}
    script = (
        "wc -c < /etc/secret; ls /data | wc -l; echo x > /data/x; echo $?; echo x > /tmp/x; echo $?;"
        " echo x > /proc/sys/kernel/hostname; echo $?; echo x > /etc/other; echo $?"
    )
    done = host("up", str(host.bundle(busybox_root, "sh", "-c", script, linux=linux)))
    assert done.out.split() == ["0", "0", "1", "1", "1", "0"], done


def test_terminal_through_a_console_socket(host: Any, busybox_root: Path) -> None:
    path = host.home / "console.sock"
    process = {"terminal": True, "consoleSize": {"height": 21, "width": 43}}
    mounts = [mount("tmpfs", "/dev"), mount("devpts", "/dev/pts")]
    bundle = host.bundle(busybox_root, "sh", process=process, mounts=mounts)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)
        creating = host.start("create", "-b", str(bundle), "--console-socket", str(path), "c1")
        connection, _ = listener.accept()
        with connection:
            _, ancillary, _, _ = connection.recvmsg(200, 200)
    terminal = array.array("i", ancillary[0][2])[0]
    try:
        assert host.end(creating).status == 0
        host("start", "c1")
        os.write(terminal, b"stty size; tty; sleep 1000\n")
        _read_until(terminal, b"21 43", b"/dev/")
        _interrupt(terminal, b"/ # ")
        os.write(terminal, b"echo int=$?; exit 6\n")
        _read_until(terminal, b"int=130")
        host.wait_until(lambda: host.listed() == {"c1": "stopped"}, "it ends")
    finally:
        os.close(terminal)
    assert host.state_of("c1")["exitStatus"] == 6
    host("delete", "c1")
    host.assert_nothing_runs()


def _interrupt(terminal: int, prompt: bytes) -> None:
    """^C until there is a prompt: one that comes between the commands of a line may be lost on the shell."""
    seen = b""
    deadline = time.monotonic() + 60
    while prompt not in seen:
        assert time.monotonic() < deadline, seen
        os.write(terminal, b"\x03")
        while prompt not in seen and select.select([terminal], [], [], 2)[0]:
            seen += os.read(terminal, 4096)


def _read_until(terminal: int, *wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 60
    while not all(text in seen for text in wanted):
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 4096)
    return seen


@pytest.mark.parametrize(
    ("name", "value"), [("io.sentrio.platform", "nonsense"), ("io.sentrio.gofer", "nonsense"), ("io.sentrio.root", "x")]
)
def test_an_annotation_with_an_unknown_value_is_one_line(host: Any, busybox_root: Path, name: str, value: str) -> None:
    done = host("up", str(host.bundle(busybox_root, "true", annotations={name: value})), status=125)
    assert done.out == ""
    assert len(done.said) == 1 and done.said[0].startswith("supervisor: ") and value in done.said[0], done
    assert host.listed() == {}
    host.assert_nothing_runs()


def test_annotations_with_known_values(host: Any, busybox_root: Path) -> None:
    annotations = {"io.sentrio.platform": "systrap", "io.sentrio.gofer": "directory", "other": "kept"}
    assert host("up", str(host.bundle(busybox_root, "echo", "x", annotations=annotations))).out == "x\n"


def test_life_cycle(any_host: Any, busybox_root: Path) -> None:
    script = "trap 'exit 40' USR1; echo up; while :; do sleep 0.1; done"
    bundle = any_host.bundle(busybox_root, "sh", "-c", script, annotations={"a": "b"})
    pid_file = any_host.home / "pid"
    creating = any_host.start("create", "--bundle", str(bundle), "--pid-file", str(pid_file), "c1")
    created = any_host.end(creating)
    assert created.status == 0, created
    state = any_host.state_of("c1")
    assert (state["status"], state["pid"], state["bundle"]) == ("created", int(pid_file.read_text()), str(bundle))
    assert state["annotations"] == {"a": "b"}
    assert created.out == ""  # nothing of the program ran
    assert "already" in any_host("create", "-b", str(bundle), "c1", status=125).said[0]
    assert any_host("delete", "c1", status=None).status in (0, 125)
    if any_host.listed() == {}:  # a created container may be deleted by some runtimes; ours says no or does it
        any_host.assert_nothing_runs()
        return
    any_host("start", "c1")
    any_host.wait_for_text(creating, "up", alone=False)
    assert any_host.listed() == {"c1": "running"}
    assert "cannot start" in any_host("start", "c1", status=125).said[0]
    assert "cannot delete" in any_host("delete", "c1", status=125).said[0]
    assert 1 in json.loads(any_host("ps", "--format", "json", "c1").out)
    any_host("kill", "c1", "USR1")
    any_host.wait_until(lambda: any_host.listed() == {"c1": "stopped"}, "it ends")
    assert any_host.state_of("c1")["exitStatus"] == 40
    assert "cannot kill" in any_host("kill", "c1", "KILL", status=125).said[0]
    any_host("delete", "c1")
    assert "does not exist" in any_host("state", "c1", status=125).said[0]
    any_host.assert_nothing_runs()


def test_run_detached(any_host: Any, busybox_root: Path) -> None:
    pid_file = any_host.home / "pid"
    bundle = any_host.bundle(busybox_root, "sleep", "1000")
    any_host("run", "--detach", "--pid-file", str(pid_file), "--bundle", str(bundle), "c1")
    monitor = int(pid_file.read_text())
    any_host.services(monitor)
    assert any_host.state_of("c1")["status"] == "running"
    assert any_host.state_of("c1")["pid"] == monitor
    any_host("kill", "c1", "KILL")
    any_host.wait_until(lambda: any_host.listed() == {"c1": "stopped"}, "it ends")
    assert any_host.state_of("c1")["exitStatus"] == 128 + signal.SIGKILL
    any_host("delete", "c1")
    any_host.assert_nothing_runs()


def test_delete_by_force(any_host: Any, busybox_root: Path) -> None:
    bundle = any_host.bundle(busybox_root, "sh", "-c", "sleep 1000 & sleep 1000", mounts=[mount("tmpfs", "/dev")])
    any_host("run", "--detach", "--bundle", str(bundle), "--pid-file", str(any_host.home / "pid"), "c1")
    any_host.services(int((any_host.home / "pid").read_text()))
    any_host("delete", "--force", "c1")
    assert any_host.listed() == {}
    any_host.assert_nothing_runs()

"""Broken, random and mutated frames at a live server: it answers or hangs up, and never reports a bug."""

from __future__ import annotations

import os
import random
import socket
import threading
from pathlib import Path

import pytest

from protocol.p9 import constants as c
from protocol.p9 import messages as m
from protocol.p9.attributes import Attributes, Qid
from protocol.p9.codec import FrameSplitter, decode_untrusted, encode
from services.gofer import app

SEEDS = 400


def conversation(frames: bytes, path: Path) -> tuple[bytes, list[str], int]:
    """All the bytes, then the end; what came back, what was logged, the exit status."""
    ours, theirs = socket.socketpair()
    log: list[str] = []
    status: list[int] = []
    backend = app.build_backend({b"": (str(path), False)})
    thread = threading.Thread(target=lambda: status.append(app.serve(theirs, backend, log=log.append)))
    thread.start()
    ours.settimeout(20)
    answered: list[bytes] = []
    writer = threading.Thread(target=lambda: _send(ours, frames))
    writer.start()
    try:
        while piece := ours.recvmsg(1 << 20, 4096, socket.MSG_CMSG_CLOEXEC):
            for _, _, data in piece[1]:
                for at in range(0, len(data), 4):
                    os.close(int.from_bytes(data[at : at + 4], "little"))
            if not piece[0]:
                break
            answered.append(piece[0])
    except ConnectionResetError:
        pass
    writer.join(20)
    thread.join(20)
    ours.close()
    backend.close()
    return b"".join(answered), log, status[0]


def _send(sock: socket.socket, frames: bytes) -> None:
    try:
        sock.sendall(frames)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def random_message(rng: random.Random) -> m.Message:
    row = rng.choice([row for number, row in m.TABLE.items() if number % 2 == 0 and number != c.TVERSION])
    fid = lambda: rng.choice((1, 1, 2, 3, 4, 5, 0xFFFFFFFF))  # noqa: E731
    name = lambda: rng.choice((b"a", b"b", b"d", b"f", b"..", b"", b"x/y", b"n" * 300, b"user.x"))  # noqa: E731
    make = {
        m.Kind.U8: lambda: rng.randrange(4),
        m.Kind.U16: lambda: rng.randrange(1 << 16),
        m.Kind.U32: lambda: rng.choice((fid(), 0, 1, 2, 0o100644, 0o40755, rng.randrange(1 << 32))),
        m.Kind.U64: lambda: rng.choice((0, 1, 100, 1 << 63, (1 << 64) - 1)),
        m.Kind.I64: lambda: rng.choice((0, -1, 1 << 40)),
        m.Kind.QID: lambda: Qid(0, 0, 0),
        m.Kind.STRING: name,
        m.Kind.DATA: lambda: rng.randbytes(rng.randrange(50)),
        m.Kind.NAMES: lambda: [name() for _ in range(rng.randrange(4))],
        m.Kind.QIDS: list,
        m.Kind.ATTRIBUTES: lambda: Attributes(*[0] * 22),
        m.Kind.ATTRIBUTES_LIST: list,
        m.Kind.FIDS: lambda: [fid()],
    }
    values = [make[kind]() for kind in row.kinds]
    for index, kind in enumerate(row.kinds):
        if kind is m.Kind.U32 and index < 2 and rng.random() < 0.8:
            values[index] = fid()
    return row.cls(*values)


OPENING = encode(m.Tversion(65536, c.VERSION_EXTENDED), c.NOTAG) + encode(m.Tattach(1, c.NOFID, b"", b"", 0), 0)


@pytest.mark.parametrize("block", range(4))
def test_well_formed_nonsense_is_answered(tmp_path: Path, block: int) -> None:
    for seed in range(block * SEEDS // 16, (block + 1) * SEEDS // 16):
        rng = random.Random(seed)
        sent = [random_message(rng) for _ in range(60)]
        frames = OPENING + b"".join(encode(message, tag) for tag, message in enumerate(sent))
        answer, log, status = conversation(frames, tmp_path)
        assert (status, log) == (0, []), seed
        splitter = FrameSplitter()
        splitter.feed(answer)
        replies = [decode_untrusted(frame) for frame in splitter.frames_untrusted()]
        wanted = [tag for tag, message in enumerate(sent) if not isinstance(message, m.Tforget)]
        assert [tag for tag, _ in replies[2:]] == wanted, seed


@pytest.mark.parametrize("block", range(4))
def test_mutated_frames_are_answered_or_end_the_conversation(tmp_path: Path, block: int) -> None:
    for seed in range(block * SEEDS // 4, (block + 1) * SEEDS // 4):
        rng = random.Random(seed)
        tail = bytearray(b"".join(encode(random_message(rng), tag) for tag in range(8)))
        for _ in range(rng.randrange(1, 6)):
            tail[rng.randrange(len(tail))] = rng.randrange(256)
        answer, log, status = conversation(OPENING + bytes(tail), tmp_path)
        assert status == 0, (seed, log)
        assert len(answer) >= 40
        assert all(line.startswith(("conversation ended", "connection lost")) for line in log), (seed, log)


def test_random_bytes_end_the_conversation(tmp_path: Path) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        _, log, status = conversation(rng.randbytes(200), tmp_path)
        assert status == 0, log
        assert log
        assert log[0].startswith("conversation ended")


def test_request_before_version_ends_the_conversation(tmp_path: Path) -> None:
    _, log, _ = conversation(encode(m.Tclunk(1), 0), tmp_path)
    assert log == ["conversation ended: message type 120 before version"]


def test_frames_sent_byte_by_byte_are_answered(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    backend = app.build_backend({b"": (str(tmp_path), False)})
    thread = threading.Thread(target=lambda: app.serve(theirs, backend))
    thread.start()
    for byte in OPENING:
        ours.send(bytes([byte]))
    ours.shutdown(socket.SHUT_WR)
    got = b""
    while piece := ours.recv(4096):
        got += piece
    thread.join(10)
    ours.close()
    backend.close()
    splitter = FrameSplitter()
    splitter.feed(got)
    assert [type(decode_untrusted(frame)[1]) for frame in splitter.frames_untrusted()] == [m.Rversion, m.Rattach]

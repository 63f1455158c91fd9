"""protocol.control: the configuration on the wire, the small MessagePack codec, the messages."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.control.config import Capabilities, MountSpec, SentryConfig, from_wire_untrusted, to_wire
from protocol.control.messages import (
    FROM_SENTRY,
    TO_SENTRY,
    Decoder,
    notification,
    request,
    request_with_fds,
    response,
)
from protocol.control.msgpack_subset import FD_EXT, MAX_DEPTH, Fd, Unpacker, pack, pack_with_fds
from protocol.errors import ProtocolViolation
from protocol.rpc import codec

SCALARS = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=300) | st.text(max_size=300)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=9), inner, max_size=20),
    max_leaves=30,
)


def unpack_all(data: bytes, step: int = 1 << 20) -> list[Any]:
    unpacker, found = Unpacker(), []
    for at in range(0, len(data), step):
        unpacker.feed(data[at : at + step])
        while (value := unpacker.next_untrusted()) is not Unpacker.NOTHING:
            found.append(value)
    return found


@given(VALUES)
def test_pack_is_what_msgpack_reads_and_back(value: Any) -> None:
    try:
        depth_ok = unpack_all(pack(value)) == [value]
    except ProtocolViolation:
        return  # nested deeper than the limit
    assert depth_ok
    assert msgpack.unpackb(pack(value), strict_map_key=False) == value
    assert unpack_all(msgpack.packb(value)) == [value]


@given(st.binary(max_size=200))
def test_random_bytes_only_ever_raise_a_violation(data: bytes) -> None:
    try:
        unpack_all(data)
    except ProtocolViolation:
        pass


def test_bytes_one_by_one_and_trailing_data() -> None:
    frames = request(1, "signal", 15, False) + notification("ready")
    assert unpack_all(frames, 1) == [[0, 1, "signal", [15, False]], [2, "ready", []]]
    assert unpack_all(frames + b"\x93") == unpack_all(frames)


ITEMS = [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, -1, -128, -(2**63), None, True]
ITEMS += [
    "",
    "a",
    "x" * 31,
    "y" * 32,
    "\u00e9" * 15,
    b"",
    b"z",
    b"w" * 255,
    b"v" * 256,
    [],
    [1, ["b", b"c"]],
    {"k": [7]},
]


@pytest.mark.parametrize("item", [*ITEMS, ITEMS], ids=lambda item: repr(item)[:20])
def test_an_array_that_is_cut_anywhere_is_not_there_yet(item: Any) -> None:
    data = pack([5, item, "end"])
    for cut in range(len(data)):
        unpacker = Unpacker()
        unpacker.feed(data[:cut])
        assert unpacker.next_untrusted() is Unpacker.NOTHING
        unpacker.feed(data[cut:] + b"\x07")
        assert unpacker.next_untrusted() == [5, item, "end"]
        assert unpacker.next_untrusted() == 7


@pytest.mark.parametrize("data", [b"\x91\xb0" + bytes(16), b"\x91\xc4\x10" + bytes(16)])
def test_no_item_of_an_array_is_larger_than_the_limit(data: bytes) -> None:
    fits, refuses = Unpacker(limit=16), Unpacker(limit=15)
    fits.feed(data)
    assert len(fits.next_untrusted()[0]) == 16
    refuses.feed(data)
    with pytest.raises(ProtocolViolation):
        refuses.next_untrusted()


@pytest.mark.parametrize(
    "data", [b"\xc1", b"\xca\0\0\0\0", b"\xc7\x01\x01\x01", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_what_is_not_used_here_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        unpack_all(data)


def test_descriptors_are_written_as_the_rpc_codec_writes_them() -> None:
    data, fds = pack_with_fds([2, "accepted", [7, Fd(40), b"x", Fd(41)]])
    assert fds == [40, 41]
    decoder = codec.Decoder()
    decoder.feed(data, [50, 51])
    assert list(decoder.messages_untrusted()) == [codec.Notification("accepted", [7, codec.Fd(50), b"x", codec.Fd(51)])]
    with pytest.raises(TypeError):
        pack([Fd(1)])


@pytest.mark.parametrize("step", [1, 1000])
def test_descriptors_go_to_the_messages_that_name_them(step: int) -> None:
    first, _ = codec.encode(codec.Notification("one", [codec.Fd(9)]))
    second, _ = codec.encode(codec.Notification("two", [codec.Fd(9), codec.Fd(9)]))
    unpacker = Unpacker(fds=True)
    unpacker.feed(b"", [60, 61, 62, 63])
    found = []
    for at in range(0, len(first + second), step):
        unpacker.feed((first + second)[at : at + step])
        while (value := unpacker.next_untrusted()) is not Unpacker.NOTHING:
            found.append([fd.number for fd in value[2]])
    assert found == [[60], [61, 62]]
    assert unpacker.take_unclaimed() == [63]


@pytest.mark.parametrize(
    ("data", "fds"),
    [
        (bytes((0xD4, FD_EXT, 0)), ()),  # none came
        (bytes((0xD4, FD_EXT, 1)), (5, 6)),  # the first is left out
        (bytes((0x92, 0xD4, FD_EXT, 0, 0xD4, FD_EXT, 0)), (5, 6)),  # one twice
        (bytes((0xD4, FD_EXT + 1, 0)), (5,)),  # another extension
    ],
)
def test_wrong_descriptors_are_refused(data: bytes, fds: tuple[int, ...]) -> None:
    unpacker = Unpacker(fds=True)
    unpacker.feed(data, fds)
    with pytest.raises(ProtocolViolation):
        unpacker.next_untrusted()
    assert unpacker.take_unclaimed() == list(fds)


def test_more_descriptors_than_messages_may_name_are_refused() -> None:
    with pytest.raises(ProtocolViolation):
        Unpacker(fds=True).feed(b"", range(200))


def test_deep_nesting_and_endless_messages_are_refused() -> None:
    with pytest.raises(ProtocolViolation):
        unpack_all(b"\x91" * 100)
    deepest = b"\x91" * (MAX_DEPTH - 1) + b"\x91\x00"
    assert len(unpack_all(deepest)) == 1
    assert unpack_all(b"\x91" * MAX_DEPTH + b"\x90") != []
    with pytest.raises(ProtocolViolation):
        unpack_all(b"\x91" + deepest)
    unpacker = Unpacker(limit=100)
    unpacker.feed(b"\xdc\x00\x64" + b"\xc4\x10" + bytes(90))
    with pytest.raises(ProtocolViolation):
        for _ in range(20):
            unpacker.next_untrusted()
            unpacker.feed(b"\xc4\x10" + bytes(15))


def test_messages_are_checked_against_the_table() -> None:
    decoder = Decoder(TO_SENTRY)
    message = decoder.feed_untrusted(request(3, "signal", 9, True))[0]
    assert (message.number, message.method, message.params) == (3, "signal", [9, True])
    assert decoder.feed_untrusted(response(4, [3, "no"], None))[0].error == [3, "no"]
    for frame in (
        request(1, "nothing"),
        request(1, "signal", 9),
        request(1, "signal", "9", True),
        request(1, "signal", True, True),
        notification("ready"),
        pack([3, "x"]),
        pack({}),
        pack(5),
    ):
        with pytest.raises(ProtocolViolation):
            Decoder(TO_SENTRY).feed_untrusted(frame)
    assert Decoder(FROM_SENTRY).feed_untrusted(notification("exited", 256))[0].params == [256]


def full_config() -> SentryConfig:
    return SentryConfig(
        argv=[b"sh", b"-c", b"\xff"],
        env=[b"A=b"],
        cwd=b"/x",
        uid=1,
        gid=2,
        additional_gids=[3],
        capabilities=Capabilities(1, 2, 3, 4, 5),
        rlimits={7: (1, (1 << 64) - 1)},
        console_size=(24, 80),
        mounts=[MountSpec(b"/", "gofer", b"root", 1, b"", True), MountSpec(b"/proc", "proc")],
        masked_paths=[b"/proc/kcore"],
        oom_score_adj=-5,
        annotations={"a": "b"},
        sandbox_id="x",
    )


def test_config_survives_the_wire() -> None:
    config = full_config()
    assert from_wire_untrusted(unpack_all(pack(to_wire(config)))[0]) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("argv", []),
        ("argv", ["sh"]),
        ("argv", [b"a\0"]),
        ("cwd", b"x"),
        ("uid", -1),
        ("uid", True),
        ("rlimits", [[99, 1, 1]]),
        ("rlimits", [[1, 1]]),
        ("mounts", [[b"/x", "gofer", b"", 0, b"", False]]),
        ("mounts", [[b"/", "nfs", b"", 0, b"", False]]),
        ("mounts", [[b"/"]]),
        ("console_size", [1]),
        ("terminal", 1),
        ("capabilities", [1, 2]),
        ("annotations", {"a": 1}),
        ("umask", 0o1000),
        ("nice", 20),
        ("oom_score_adj", 5000),
    ],
)
def test_config_from_a_hostile_peer(field: str, value: Any) -> None:
    with pytest.raises(ProtocolViolation):
        from_wire_untrusted({**to_wire(full_config()), field: value})


def test_config_with_unknown_or_missing_fields() -> None:
    wires: list[object] = [None, [], {}, {"argv": [b"x"], "extra": 1}]
    for wire in wires:
        with pytest.raises(ProtocolViolation):
            from_wire_untrusted(wire)


def test_a_request_brings_its_descriptor_and_only_where_it_is_asked_for() -> None:
    frame, fds = request_with_fds(3, "network_restarted", Fd(7))
    decoder = Decoder(TO_SENTRY, fds=True)
    (message,) = decoder.feed_untrusted(frame, fds)
    assert (message.method, message.number, message.params[0].number) == ("network_restarted", 3, 7)
    for bad in (frame, request(3, "network_restarted", 7), request_with_fds(3, "signal", Fd(1), True)[0]):
        with pytest.raises(ProtocolViolation):
            Decoder(TO_SENTRY, fds=True).feed_untrusted(bad)
    with pytest.raises(ProtocolViolation):
        Decoder(TO_SENTRY).feed_untrusted(frame, fds)


def test_the_configurations_network_and_files_travel() -> None:
    config = SentryConfig([b"x"], network="host", files=[(b"/etc/hosts", b"a\0b")])
    again = from_wire_untrusted(unpack_all(pack(to_wire(config)))[0])
    assert (again.network, again.files) == ("host", [(b"/etc/hosts", b"a\0b")])
    for name, value in (("network", "bridge"), ("network", 1), ("files", [[b"etc", b""]]), ("files", [[b"/etc"]])):
        with pytest.raises(ProtocolViolation):
            from_wire_untrusted({**to_wire(config), name: value})

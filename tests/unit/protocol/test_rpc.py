"""MessagePack-RPC: round trips whole and in pieces, hostile bytes, fds beside messages, calls over a socket."""

from __future__ import annotations

import os
import socket

import msgpack
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ProtocolViolation
from protocol.rpc.codec import MAX_MESSAGE_BYTES, Decoder, Encoder, Fd, Message, Notification, Request, Response, encode
from protocol.rpc.connection import RpcConnection, RpcError
from protocol.rpc.trio_edge import RpcChannel, RpcClosed

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
ids = st.integers(0, 2**32 - 1)
methods = st.text(min_size=1, max_size=30).filter(lambda text: len(text.encode()) <= 128)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Request, ids, methods, st.lists(values, max_size=4)),
    st.builds(Response, ids, values, values),
    st.builds(Notification, methods, st.lists(values, max_size=4)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, min_size=1, max_size=4), st.integers(1, 40))
def test_messages_fed_in_pieces_come_out_equal(sent: list[Message], piece: int) -> None:
    stream = b"".join(encode(message)[0] for message in sent)
    for step in {1, piece, len(stream)}:
        decoder = Decoder()
        got: list[Message] = []
        for at in range(0, len(stream), step):
            decoder.feed(stream[at : at + step])
            got += decoder.messages_untrusted()
        assert got == sent


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_decode_or_violate(data: bytes) -> None:
    decoder = Decoder()
    try:
        decoder.feed(data)
        list(decoder.messages_untrusted())
    except ProtocolViolation as violation:
        assert violation.why


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        [0],
        [0, -1, "m", []],
        [0, 1, "", []],
        [0, 1, "m", {}],
        [3, 1],
        [True, 1, "m", []],
        ["0"],
        [1, 2**33, 0, 0],
    ],
)
def test_wrong_shape_violates(body: object) -> None:
    decoder = Decoder()
    decoder.feed(msgpack.packb(body))
    with pytest.raises(ProtocolViolation):
        list(decoder.messages_untrusted())


def test_message_over_the_limit_violates() -> None:
    decoder = Decoder()
    with pytest.raises(ProtocolViolation):
        for _ in range(3):
            decoder.feed(b"\xc6\x00\x20\x00\x00" + bytes(MAX_MESSAGE_BYTES // 2))
            list(decoder.messages_untrusted())


def test_deep_nesting_violates() -> None:
    decoder = Decoder()
    decoder.feed(b"\x91" * 100_000)
    with pytest.raises(ProtocolViolation):
        list(decoder.messages_untrusted())


def test_fds_land_where_the_message_says() -> None:
    data, fds = encode(Request(1, "m", [Fd(11), {"k": Fd(12)}]))
    assert fds == [11, 12]
    decoder = Decoder()
    decoder.feed(data, [21, 22, 23])
    (message,) = decoder.messages_untrusted()
    assert message == Request(1, "m", [Fd(21), {"k": Fd(22)}])
    assert decoder.take_unclaimed() == [23]


def test_named_fd_that_did_not_come_violates_and_keeps_the_others() -> None:
    data, _ = encode(Request(1, "m", [Fd(11), Fd(12)]))
    decoder = Decoder()
    decoder.feed(data, [21])
    with pytest.raises(ProtocolViolation):
        list(decoder.messages_untrusted())
    assert decoder.take_unclaimed() == [21]


def test_what_cannot_be_sent_leaves_nothing_in_the_next_message() -> None:
    encoder = Encoder()
    with pytest.raises(TypeError):
        encoder.notification("m", [Fd(11), object()])
    data, fds = encoder.notification("n", [Fd(12)])
    assert fds == [12]
    decoder = Decoder()
    decoder.feed(data, [22])
    assert list(decoder.messages_untrusted()) == [Notification("n", [Fd(22)])]
    assert encoder.notification("o", []) == encode(Notification("o", []))
    assert fds == [12]


def test_response_nobody_asked_for_violates() -> None:
    connection = RpcConnection()
    with pytest.raises(ProtocolViolation):
        list(connection.receive_untrusted(encode(Response(5, None, 1))[0]))


def test_abandoned_call_is_answered_to_nobody() -> None:
    ours, theirs = RpcConnection(), RpcConnection()
    msgid, (data, _) = ours.call("m", [])
    ours.abandon(msgid)
    (request,) = theirs.receive_untrusted(data)
    assert isinstance(request, Request)
    (response,) = ours.receive_untrusted(theirs.answer(request.msgid, 1)[0])
    assert isinstance(response, Response)
    assert not ours.is_wanted(response)
    assert ours.statistics().ours == 0


async def test_call_over_a_socket_carries_results_errors_and_fds() -> None:
    left, right = socket.socketpair()
    client, server = RpcChannel(left), RpcChannel(right)

    async def give(fd: Fd, text: str) -> object:
        os.write(fd.number, text.encode())
        os.close(fd.number)
        return {"text": text}

    async def fail() -> None:
        raise FileNotFoundError(2, "no such thing")

    async def bug() -> None:
        raise ValueError("oops")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, {"give": give, "fail": fail, "bug": bug})
        nursery.start_soon(client.serve, {})
        with trio.fail_after(5):
            reader, writer = os.pipe()
            assert await client.call("give", Fd(writer), "hi") == {"text": "hi"}
            os.close(writer)
            assert os.read(reader, 10) == b"hi"
            assert os.read(reader, 10) == b""  # the server's copy is closed too
            os.close(reader)
            for method, errno in (("fail", 2), ("bug", 0), ("absent", 38)):
                with pytest.raises(RpcError) as caught:
                    await client.call(method)
                assert caught.value.errno == errno
            client.close()
            with pytest.raises(RpcClosed):
                await client.call("give")
        nursery.cancel_scope.cancel()


async def test_peer_that_sends_nonsense_ends_the_conversation() -> None:
    left, right = socket.socketpair()
    server = RpcChannel(right)
    left.send(b"\xc1\xc1")
    with trio.fail_after(5), pytest.raises(ProtocolViolation):
        await server.serve({})
    assert left.recv(1) == b""
    left.close()

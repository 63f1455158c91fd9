"""How a program asks netstackd for sockets: the messages of the control connection, and the header beside datagrams.

`messages.py` has the methods with the types of their parameters and the order of events, `datagrams.py` the 48 bytes in
front of every datagram. Pure: neither imports a codec, so that MessagePack-RPC of either kind (protocol/rpc,
protocol/control/msgpack_subset) may carry it.
"""

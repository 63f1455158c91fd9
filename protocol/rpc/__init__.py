"""MessagePack-RPC with fds beside messages: the control plane between services.

`codec.py` (bytes to messages), `connection.py` (ids and who waits for what), both sans-IO; `trio_edge.py` moves the
bytes.
"""

"""The control plane between a sandbox's monitor and its Sentry, and between the command line and the monitor.

Owns: `config.py` (what a sandbox shall be), `msgpack_subset.py` (a small MessagePack codec without dependencies),
`messages.py` (MessagePack-RPC framing and the table of methods). Sockets and processes stay with the callers.
"""

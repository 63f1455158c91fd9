"""Everything that two parts of the system agree on: the Linux ABI, 9P messages, RPC frames. Imports nothing of ours.

Owns codecs and layouts only (sans-IO: bytes in, values out). Sockets and clocks stay with the callers, except in the
files named `trio_edge.py`.
"""

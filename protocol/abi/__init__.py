"""The Linux ABI for x86-64 as constants and structure layouts, one module per kernel header.

Owns: numbers, flag values, sizes and field orders that a guest program can see. Does not own: any meaning of them.
Imports nothing of ours and does nothing at import but define names. Values follow Linux 6.x; a header that grew later
than the machine's own headers says so on the line. Every value is compared with the C compiler's in
tests/unit/protocol_abi/test_against_headers.py.
"""

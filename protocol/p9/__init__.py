"""9P2000.L and its negotiated extension. Read `constants.py`, then `messages.py`, then `codec.py`.

`client.py` is the only file here that touches a socket; everything else turns bytes into values and back.
"""

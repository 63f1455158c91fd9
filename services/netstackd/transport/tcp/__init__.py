"""TCP as a sans-IO state machine: segments and a clock reading in, segments, events and a deadline out.

Read `segment.py` and `context.py` first (what passes between TCP and the layers below), then `endpoint.py` (the
state of one connection and its API), `states.py`, `input.py` and `output.py`. Everything else is one concern each.

Conventions of the whole package:
- `now` is an int of nanoseconds on a monotonic clock; it is always an argument.
- Sequence numbers inside an endpoint are *unwrapped*: plain growing ints whose low 32 bits are what the wire shows.
  They are widened once at input and masked once at output, so no comparison has to think of wrap-around.
- Window sizes, `cwnd` and everything in flight are counted in bytes.
"""

"""transport/tcp/parameters: what a child has of its listener's options."""

from __future__ import annotations

from services.netstackd.transport.tcp.parameters import Options, Parameters


def test_child_has_every_option_of_its_listener_and_keeps_its_own() -> None:
    listener = Options(Parameters())
    for value, name in enumerate(Options.__slots__, 1000):
        setattr(listener, name, value)
    child = listener.inherit()
    assert {name: getattr(child, name) for name in Options.__slots__} == {
        name: value for value, name in enumerate(Options.__slots__, 1000)
    }
    child.nodelay = True
    assert listener.nodelay is not True

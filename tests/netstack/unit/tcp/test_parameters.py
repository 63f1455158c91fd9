"""transport/tcp/parameters: what a child has of its listener's options."""

from __future__ import annotations

from services.netstackd.transport.tcp.parameters import Options, Parameters
from tests.netstack.interpreted import attributes


def test_child_has_every_option_of_its_listener_and_keeps_its_own() -> None:
    listener = Options(Parameters())
    names = attributes(Options)
    assert len(names) > 20
    for value, name in enumerate(names, 1000):
        old = getattr(listener, name)
        setattr(listener, name, f"{value}" if isinstance(old, str) else not old if isinstance(old, bool) else value)
    child = listener.inherit()
    for name in names:
        assert getattr(child, name) == getattr(listener, name), name
    child.nodelay = not child.nodelay
    assert listener.nodelay is not child.nodelay

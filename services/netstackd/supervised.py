"""netstackd and its connector as services of a supervisor, which forks, confines and restarts them itself.

Owns: `run_in_child`, `run_connector`. The supervisor (a sandbox's monitor, or the keeper of a shared network) stands
where edge/keeper.py stands for the program: it answers the router's request for a connector, and holds what must
outlive a router. Nothing of its configuration is in a file, and nothing is reloaded. The configuration comes as text;
`preset:slirp` stands for the preset of that name with all its defaults.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final, NoReturn

from services.netstackd.config import presets
from services.netstackd.config.load import load
from services.netstackd.config.model import Config
from services.netstackd.edge.connector import Connector
from services.netstackd.edge.connector import run_connector as connect_for
from services.netstackd.process import run_router

NAME: Final = "supervisor"
_PRESET: Final = "preset:"


def text_of(text: str) -> str:
    """The configuration that `text` is or stands for."""
    return presets.slirp() if text == f"{_PRESET}slirp" else text


def _same(config: Config) -> Config:
    return config


def run_in_child(
    channel: socket.socket, listener: socket.socket | None, text: str, *, seal: bool, confine: Callable[[], None]
) -> NoReturn:
    """Be the sealed router. channel: to the supervisor. listener: the control socket, when there is one.

    `confine` is called once, when everything is imported and read, right before the seal. Never returns.
    """
    source = (NAME, text_of(text))
    if not seal:
        confine()
    run_router(load(*source), source, {}, listener, channel, _same, not seal, confine=confine if seal else None)


def run_connector(
    channel: socket.socket, text: str, *, seal: bool, confine: Callable[[], None], ready_fd: int
) -> NoReturn:
    """Be the connector of the router that has this configuration; one byte to `ready_fd` says that it is sealed."""
    spec = load(NAME, text_of(text)).slirp
    connector = Connector() if spec is None else Connector(spec.denied, host_loopback=spec.host_loopback, dns=True)
    if seal:
        connect_for(channel, connector, False, confine, ready_fd)
    confine()
    os.write(ready_fd, b"1")
    connect_for(channel, connector, True)

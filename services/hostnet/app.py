"""The broker as a process: what must be open before the seal, the seal, then the loop until the Sentry is gone."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable
from typing import Final, NoReturn

from services.hostnet import host_filter
from services.hostnet.broker import Broker
from services.hostnet.loop import Loop
from services.hostnet.snapshot import HostNetwork

CAP_NET_BIND_SERVICE: Final = 10  # root's broker has it: servers in the sandbox listen on any port


def run_in_child(sock: socket.socket, *, seal: bool, confine: Callable[[], None], ready_fd: int) -> NoReturn:
    """Serve the Sentry at the other end of `sock`. One byte to `ready_fd` says that the process is sealed.

    `confine` is called once, right before the seal. Never returns: the status is 0 when the Sentry has gone.
    """
    host = HostNetwork()
    loop = Loop()
    Broker(loop, sock, host)
    if seal:
        from protocol.sealing import landlock_unsafe
        from protocol.sealing.seal_unsafe import cache_directory, cached_filter, set_no_new_privs
        from protocol.sealing.seal_unsafe import seal as seal_now

        program = cached_filter(host_filter.ROWS, cache_directory())
        confine()
        os.write(ready_fd, b"1")  # what follows succeeds or ends the process, before it reads a word
        set_no_new_privs()
        landlock_unsafe.restrict([], network=False)  # no path at all; TCP is what it is there for
        keep = {2, sock.fileno(), loop.fileno(), *host.descriptors()}
        seal_now(host_filter.ROWS, keep_fds=keep, keep_capabilities={CAP_NET_BIND_SERVICE}, program=program)
    else:
        confine()
        os.write(ready_fd, b"1")
        os.close(ready_fd)
    gc.freeze()
    loop.run()
    os._exit(0)

"""The network without privilege: what leaves the virtual network ends as sockets of the host.

    engine.py         Slirp: what a stack's foreign packets become; limits; the end of everything
    destinations.py   which addresses may leave
    tcp.py            SYNs that are held until the host's connection stands
    pump.py           bytes between a connection of the stack and one of the host
    publish.py        ports of the host that lead inside
    datagrams.py      UDP and echo requests: flows with a time of idleness
    host.py           what the engine needs of the host (edge/host_sockets.py has it)

Sans-IO: host sockets come in through `host.py`'s protocols, and tests use fakes of them.
"""

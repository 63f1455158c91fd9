"""AF_INET and AF_INET6 sockets: TCP and UDP over what the sandbox's network provides (ip(7), ipv6(7), tcp(7), udp(7)).

`network.py` says who carries data to which address; `loopback.py` is the provider every sandbox has.
"""

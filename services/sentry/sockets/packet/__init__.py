"""AF_PACKET sockets: frames as they are on a link, for tcpdump(8) and DHCP clients (packet(7)).

There are only those of a network beyond the sandbox: what goes over the loopback is no packet. The family exists where
`netstack.attach` was called.
"""

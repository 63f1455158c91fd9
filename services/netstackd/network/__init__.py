"""netstackd network: the internet layer: interfaces, addresses, neighbours, routes, IPv4, IPv6, ICMP, forwarding."""

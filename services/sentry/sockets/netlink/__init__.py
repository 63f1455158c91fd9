"""AF_NETLINK sockets: asking the kernel about its network (netlink(7), rtnetlink(7), sock_diag(7))."""

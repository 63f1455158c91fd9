"""netstackd: the userspace TCP/IP stack, one process per network. Not written yet; `__main__` says so."""

"""netstackd storage: what holds bytes and deadlines between the layers: packets, timers, buffers, reassembly."""

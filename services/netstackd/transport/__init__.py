"""netstackd transport: what stands on IP: demultiplexing, ports, UDP, TCP, raw, ping and packet endpoints."""

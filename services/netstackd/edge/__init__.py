"""The event loop: descriptors, time and signals, and nothing that looks into a packet."""

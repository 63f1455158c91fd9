"""Sockets: what all families share, the family registry, and unix domain sockets."""

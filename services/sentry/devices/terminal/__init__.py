"""Terminals: the line discipline (sans-IO), pseudo-terminal pairs, the host terminal behind the console."""

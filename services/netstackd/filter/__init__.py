"""Packet filter, connection tracking and address translation: one hook pipeline for IPv4 and IPv6. Sans-IO."""

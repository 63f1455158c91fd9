"""What this host offers, for `supervisor doctor`."""

"""Files about the whole system: one function `(reader) -> bytes` per entry, close families together."""

"""Files about one task: one function `(reader, target) -> bytes` per entry, close families together."""

"""The broker of `--network host`: the socket service over the host's own stack. README.md has its threat model."""

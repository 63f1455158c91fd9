"""The socket service: clients ask for sockets of a namespace and get descriptors with their data. See server.py."""

"""The supervisor: command line, OCI runtime interface, and the monitor that starts and watches a sandbox's services.

`cli.py` is the grammar, `commands/` has one file per verb, `launch/` starts processes, `monitor/` watches them,
`container/` keeps what is known of a container on disk, `spec/` reads OCI bundles, `host/` asks what the host offers.
"""

"""Networks of sandboxes: what may be asked for, the processes that carry them, and how a sandbox joins one."""

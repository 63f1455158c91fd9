"""How a service gives up what it does not need before it serves: shared by every service, knows none of them.

`rows.py` says what an allowlist is; `seal_unsafe.py` applies one; `landlock_unsafe.py` confines a process to
directories.
"""

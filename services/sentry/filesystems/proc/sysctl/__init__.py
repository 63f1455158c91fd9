"""/proc/sys: kernel parameters (proc_sys(5)). Rows in table.py, values and their rules in values.py."""

"""The client file system of a Gofer. Read `superblock.py` first, then `inode.py`, `open_regular.py`."""

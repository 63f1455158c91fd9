"""The Gofer: the one process of a sandbox that may open host files, and serves them over 9P. Read README.md first."""

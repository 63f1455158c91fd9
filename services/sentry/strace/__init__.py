"""What a traced sandbox prints: one line a system call, in the manner of strace(1)."""

"""Tasks, signals, time: the kernel proper."""

"""One verb of the command line per module: `HELP`, `OPTIONS`, and `run(arguments, settings) -> exit status`."""

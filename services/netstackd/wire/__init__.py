"""netstackd wire: bytes to values and back for every protocol header: pure functions, no state, no I/O."""

"""What moves frames: the only code of netstackd, with edge/, that holds descriptors. `base.py` says what a link is."""

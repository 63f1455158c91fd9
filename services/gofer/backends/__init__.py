"""What a gofer can serve. `base.py` is the interface; each other file is one implementation (`sentrio.gofers`)."""

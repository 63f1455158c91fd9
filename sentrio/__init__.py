"""What other programs import from sentrio, and nothing else.

Owns the public names. Imports nothing of `services`, so that nobody's own package of that name can ever clash with
ours. `sentrio.net` (to be imported by that name) has sockets of a netstackd; clients of sandboxes come here.
"""

from __future__ import annotations

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"

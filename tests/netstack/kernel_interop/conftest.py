"""The kernel and a stack on one link (kernel.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netstack.kernel_interop.kernel import Kernel


@pytest.fixture(params=[True, False], ids=["offload", "plain"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """One link between a stack and the kernel, with and without offloads."""
    made = Kernel(request.param)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def plain() -> Iterator[Kernel]:
    """The same, once, for what does not depend on offloads."""
    made = Kernel(True)
    try:
        yield made
    finally:
        made.close()

"""kernel/guest_ops.py: in what order a new thread is told of, beside what the differential tests see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.sentry.kernel import guest_ops


def test_the_number_of_a_thread_is_stored_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """clone(2) may store it where the thread's end stores 0: what travels with the parent's answer could come after."""
    order: list[str] = []
    memory: Any = SimpleNamespace(pending=None, pending_addr=0, trapped=None, loan=None, add_user=lambda: None)

    def flush() -> None:
        order.append(f"{memory.pending} is stored")
        memory.pending = None

    def finish(result: int) -> int:
        memory.pending = "the number"
        return 5

    memory.flush = flush
    copy = SimpleNamespace(
        owner=None,
        return_in_child=lambda stack, tls: None,
        resume_registers=lambda: order.append("it runs"),
        resume_with_copy=lambda result, addr, data: order.append(f"it runs with {data}"),
    )
    group = SimpleNamespace()
    platform = SimpleNamespace(hand_thread_over=lambda context: None, reuse_thread=lambda context: copy)
    parent: Any = SimpleNamespace(mm=memory, group=group, context=SimpleNamespace(platform=platform))
    child: Any = SimpleNamespace(
        group=group, signal_pending=False, stop_pending=False, share_mask=lambda: None, let_tell=lambda: None
    )
    monkeypatch.setattr(guest_ops, "publish", lambda task: None)
    assert guest_ops.start_child(parent, child, share_vm=True, stack=0, tls=None, finish=finish) == 5
    assert order == ["the number is stored", "it runs"]

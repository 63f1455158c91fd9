"""Jumping into the stub: each of its system-call instructions, with registers of the guest's choice, gains nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

DIE = (
    "op_mmap_stub op_mmap_header op_mmap_across op_munmap_across op_munmap_all op_munmap_end op_protect_read "
    "op_protect_write op_remove op_file_shared op_file_on_stub op_file_arena op_hand_in op_munmap op_mprotect "
    "op_mremap op_madvise op_arena op_write op_execve "
    "op_openat op_x32 clone_fork clone_thread clone_untrace clone_clone3 child_region child_region_elsewhere "
    "child_region_own hello hello_thread futex_wake futex_requeue futex_lock_pi futex_private futex_other_call "
    "wait_wake wait_private wait_other_call "
    "ring_other_fd ring_arena ring_longer ring_pwrite close_other_call exit_alone exit_group_there exit_leader "
    "map_stub map_other_call map_shared_arena unmap_there unmap_other_call "
    "op_mmap_vdso op_munmap_vdso op_protect_vdso op_mmap_anywhere op_mmap_grows close_doorbell close_arena "
    "op_mmap_shared recycle recycled wipe_other_range recycle_doorbell "
    "advise_stub advise_remove advise_other_call "
    "keep_other_call keep_write keep_stub give_stub give_window give_elsewhere give_below give_vdso give_long "
    "give_longer give_execution give_other_call "
    "setup_call setup_prctl take_frame sigreturn_other_call fake_slot"
).split()
HARMLESS = (
    "op_mmap op_file op_file_closed op_file_refused op_file_anonymous op_file_faulted op_file_forked op_high_bits "
    "futex_wait_wrong_value ring_full close_files exit_thread give_nothing "
    "give_file"
).split()


@pytest.mark.sandbox
def test_forbidden_jumps_kill_their_process_and_no_other(attack: Callable[..., Any]) -> None:
    outcome = attack("jumps", DIE)
    assert [name for name in DIE if not outcome.results.get(name, "").endswith("signal 9")] == [], outcome.text
    assert "hangs" not in outcome.text


@pytest.mark.sandbox
def test_allowed_jumps_harm_at_most_their_own_process(attack: Callable[..., Any]) -> None:
    outcome = attack("jumps", HARMLESS)
    assert [name for name in HARMLESS if not outcome.results.get(name, "").endswith("exit 0")] == [], outcome.text


@pytest.mark.sandbox
def test_thread_asleep_in_the_stub_can_be_killed(attack: Callable[..., Any]) -> None:
    for name in ("futex_wait_for_ever", "wait_for_ever"):
        outcome = attack("jumps", [name])
        assert outcome.results[name] == f"(killed) {name} signal 9"


@pytest.mark.sandbox
def test_any_byte_of_the_text_as_entry_is_harmless(attack: Callable[..., Any]) -> None:
    outcome = attack("jumps", ["every_byte"])
    assert outcome.results["every_byte"].endswith("exit 0"), outcome.text

"""set*id rules and exec's transformation, as credentials(7) and capabilities(7) have them."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.abi import capability_h as ch
from protocol.records import replace
from services.sentry.errors import LinuxError
from services.sentry.kernel.credentials import (
    KEEP,
    Credentials,
    FileCapabilities,
    for_exec,
    is_secure_exec,
    parse_file_capabilities,
    set_fs_uid,
    set_re_uid,
    set_res_uid,
    set_uid,
)

ROOT = Credentials.for_user(0, 0)
USER = Credentials.for_user(1000, 1000)


def test_setuid_root_to_user_loses_everything() -> None:
    cred = set_uid(ROOT, 1000)
    assert (cred.ruid, cred.euid, cred.suid, cred.fsuid) == (1000,) * 4
    assert cred.cap_permitted == cred.cap_effective == 0


def test_setuid_user_to_other_is_refused() -> None:
    with pytest.raises(LinuxError) as failure:
        set_uid(USER, 1001)
    assert failure.value.errno == errno.EPERM


def test_seteuid_root_and_back_moves_only_the_effective_set() -> None:
    away = set_res_uid(ROOT, KEEP, 1000, KEEP)
    assert (away.cap_permitted, away.cap_effective) == (ch.ALL_CAPABILITIES, 0)
    back = set_res_uid(away, KEEP, 0, KEEP)
    assert back.cap_effective == ch.ALL_CAPABILITIES


def test_setuid_with_keepcaps_keeps_permitted() -> None:
    cred = set_uid(replace(ROOT, securebits=1 << ch.SECURE_KEEP_CAPS), 5)
    assert (cred.cap_permitted, cred.cap_effective) == (ch.ALL_CAPABILITIES, 0)


def test_setreuid_changing_real_sets_saved() -> None:
    cred = set_re_uid(Credentials(1000, 1001, 1002, 1001), 1001, KEEP)
    assert (cred.ruid, cred.euid, cred.suid) == (1001, 1001, 1001)


def test_setfsuid_root_away_drops_only_file_capabilities() -> None:
    cred = set_fs_uid(ROOT, 1000)
    assert not cred.has_cap(ch.CAP_DAC_OVERRIDE)
    assert cred.has_cap(ch.CAP_SYS_ADMIN)
    assert set_fs_uid(USER, 7) is USER


ids = st.sampled_from([KEEP, 0, 1, 2, 3])


@given(ids, ids, ids, st.sampled_from([0, 1]))
def test_setresuid_unprivileged_only_permutes_own_ids(r: int, e: int, s: int, privileged: int) -> None:
    cred = Credentials(1, 2, 3, 2, cap_effective=privileged << ch.CAP_SETUID)
    own = {1, 2, 3, KEEP}
    if not privileged and not {r, e, s} <= own:
        with pytest.raises(LinuxError):
            set_res_uid(cred, r, e, s)
        return
    new = set_res_uid(cred, r, e, s)
    assert (new.ruid, new.euid, new.suid) == tuple(
        old if given == KEEP else given for old, given in zip((1, 2, 3), (r, e, s), strict=True)
    )
    assert new.fsuid == new.euid


def test_exec_setuid_root_by_user_gains_all_and_is_secure() -> None:
    new = for_exec(USER, 0, 0, 0o104755, False)
    assert (new.ruid, new.euid, new.suid, new.fsuid) == (1000, 0, 0, 0)
    assert new.cap_effective == ch.ALL_CAPABILITIES
    assert is_secure_exec(USER, new)


def test_exec_setuid_with_no_new_privs_gains_nothing() -> None:
    new = for_exec(USER, 0, 0, 0o106755, True)
    assert new == USER
    assert not is_secure_exec(USER, new)


def test_exec_setgid_without_group_execute_is_not_honoured() -> None:
    assert for_exec(USER, 5, 6, 0o102745, False).egid == 1000
    assert for_exec(USER, 5, 6, 0o102755, False).egid == 6


def test_exec_plain_by_user_has_only_ambient() -> None:
    bit = 1 << ch.CAP_NET_RAW
    cred = replace(USER, cap_permitted=bit, cap_inheritable=bit, cap_ambient=bit, cap_effective=bit)
    new = for_exec(cred, 0, 0, 0o755, False)
    assert (new.cap_permitted, new.cap_effective, new.cap_ambient) == (bit, bit, bit)
    assert not is_secure_exec(cred, new)


def test_exec_root_regains_the_bounding_set_only() -> None:
    cred = replace(ROOT, cap_bounding=3, cap_permitted=0, cap_effective=0)
    new = for_exec(cred, 0, 0, 0o755, False)
    assert new.cap_permitted == new.cap_effective == 3


def test_exec_file_capabilities_give_the_user_these() -> None:
    bit = 1 << ch.CAP_NET_BIND_SERVICE
    new = for_exec(USER, 0, 0, 0o755, False, FileCapabilities(bit, 0, True))
    assert (new.cap_permitted, new.cap_effective) == (bit, bit)
    assert is_secure_exec(USER, new)


def test_exec_effective_file_capabilities_beyond_bounding_are_refused() -> None:
    with pytest.raises(LinuxError) as failure:
        for_exec(replace(USER, cap_bounding=0), 0, 0, 0o755, False, FileCapabilities(1, 0, True))
    assert failure.value.errno == errno.EPERM


def test_file_capabilities_of_revision_2_are_decoded_and_others_ignored() -> None:
    raw = (0x02000001).to_bytes(4, "little") + b"".join(n.to_bytes(4, "little") for n in (0x400, 0, 1, 0))
    assert parse_file_capabilities(raw) == FileCapabilities(0x400 | 1 << 32, 0, True)
    assert parse_file_capabilities(raw[:-1]) is None
    assert parse_file_capabilities(b"") is None

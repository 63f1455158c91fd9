"""<linux/futex.h>: futex operations, robust lists, the waitv structure."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Operations.
FUTEX_WAIT: Final[int] = 0
FUTEX_WAKE: Final[int] = 1
FUTEX_FD: Final[int] = 2
FUTEX_REQUEUE: Final[int] = 3
FUTEX_CMP_REQUEUE: Final[int] = 4
FUTEX_WAKE_OP: Final[int] = 5
FUTEX_LOCK_PI: Final[int] = 6
FUTEX_UNLOCK_PI: Final[int] = 7
FUTEX_TRYLOCK_PI: Final[int] = 8
FUTEX_WAIT_BITSET: Final[int] = 9
FUTEX_WAKE_BITSET: Final[int] = 10
FUTEX_WAIT_REQUEUE_PI: Final[int] = 11
FUTEX_CMP_REQUEUE_PI: Final[int] = 12
FUTEX_LOCK_PI2: Final[int] = 13
FUTEX_PRIVATE_FLAG: Final[int] = 128
FUTEX_CLOCK_REALTIME: Final[int] = 256
FUTEX_CMD_MASK: Final[int] = -385
FUTEX_WAIT_PRIVATE: Final[int] = 128
FUTEX_WAKE_PRIVATE: Final[int] = 129
FUTEX_REQUEUE_PRIVATE: Final[int] = 131
FUTEX_CMP_REQUEUE_PRIVATE: Final[int] = 132
FUTEX_WAKE_OP_PRIVATE: Final[int] = 133
FUTEX_LOCK_PI_PRIVATE: Final[int] = 134
FUTEX_LOCK_PI2_PRIVATE: Final[int] = 141
FUTEX_UNLOCK_PI_PRIVATE: Final[int] = 135
FUTEX_TRYLOCK_PI_PRIVATE: Final[int] = 136
FUTEX_WAIT_BITSET_PRIVATE: Final[int] = 137
FUTEX_WAKE_BITSET_PRIVATE: Final[int] = 138
FUTEX_WAIT_REQUEUE_PI_PRIVATE: Final[int] = 139
FUTEX_CMP_REQUEUE_PI_PRIVATE: Final[int] = 140

# The futex word.
FUTEX_WAITERS: Final[int] = 0x80000000
FUTEX_OWNER_DIED: Final[int] = 0x40000000
FUTEX_TID_MASK: Final[int] = 0x3FFFFFFF
FUTEX_BITSET_MATCH_ANY: Final[int] = 0xFFFFFFFF

# FUTEX_WAKE_OP's encoded operation.
FUTEX_OP_SET: Final[int] = 0
FUTEX_OP_ADD: Final[int] = 1
FUTEX_OP_OR: Final[int] = 2
FUTEX_OP_ANDN: Final[int] = 3
FUTEX_OP_XOR: Final[int] = 4
FUTEX_OP_OPARG_SHIFT: Final[int] = 8
FUTEX_OP_CMP_EQ: Final[int] = 0
FUTEX_OP_CMP_NE: Final[int] = 1
FUTEX_OP_CMP_LT: Final[int] = 2
FUTEX_OP_CMP_LE: Final[int] = 3
FUTEX_OP_CMP_GT: Final[int] = 4
FUTEX_OP_CMP_GE: Final[int] = 5

# futex_waitv(2) and the futex2 family.
FUTEX_32: Final[int] = 2
FUTEX_WAITV_MAX: Final[int] = 0x80

# Linux 6.7.
FUTEX2_SIZE_U8: Final[int] = 0
FUTEX2_SIZE_U16: Final[int] = 1
FUTEX2_SIZE_U32: Final[int] = 2
FUTEX2_SIZE_U64: Final[int] = 3
FUTEX2_NUMA: Final[int] = 4
FUTEX2_MPOL: Final[int] = 8
FUTEX2_PRIVATE: Final[int] = 0x80

ROBUST_LIST_LIMIT: Final[int] = 2048

FUTEX2_SIZE_MASK: Final[int] = 3

# struct robust_list_head: list.next, futex_offset, list_op_pending.
ROBUST_LIST_HEAD: Final = layout("struct robust_list_head", "QqQ", 24)
# struct futex_waitv: val, uaddr, flags, __reserved.
FUTEX_WAITV_ENTRY: Final = layout("struct futex_waitv", "QQII", 24)

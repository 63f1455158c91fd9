"""<linux/rseq.h>: restartable sequences."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

RSEQ_CPU_ID_UNINITIALIZED: Final[int] = -1
RSEQ_CPU_ID_REGISTRATION_FAILED: Final[int] = -2
RSEQ_FLAG_UNREGISTER: Final[int] = 1

# struct rseq: cpu_id_start, cpu_id, rseq_cs, flags, node_id, mm_cid.
RSEQ: Final = layout("struct rseq", "IIQIII4x", 32)
RSEQ_ORIGINAL_SIZE: Final[int] = 32
RSEQ_ALIGNMENT: Final[int] = 32
# struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip.
RSEQ_CS: Final = layout("struct rseq_cs", "IIQQQ", 32)

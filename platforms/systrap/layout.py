"""Where everything lies: the stub's range in every guest address space, the shared file, and one slot.

The one source of these numbers: `stub/build.py` writes them into a C header, the Sentry side uses them directly.

In every guest address space, from STUB_BASE:

    +0        text      stub code, read and execute only
    +GLOBAL   global    one page for all guests, read only to them (doorbell armed? how long to spin?)
    +HEADER   header    per address space: answers known in advance (ids by slot, file rows by fd, one standing answer)
    +SLOTS    slots     SLOT_SIZE each, read and write: the register window and the signal stack of one thread

The shared memfd ("arena") is an array of REGION_SIZE regions. Region 0 is the global page; an address space owns one
region at first and one more for every SLOTS_PER_REGION threads beyond. A region's first slot is its header; header and
slots of the first region are one mapping, which a guest may write: what it reads there concerns itself alone. In the
header lie also the notes on files (FILE_NOTES_AT), which are mapped once more behind the windows, the log of local
mappings, and where rings lie; at the end of the first region, memory that fork(2) saves (LOAN).
"""

from __future__ import annotations

from typing import Final

__all__ = ["CONSTANTS"]

STUB_BASE: Final = 0x7E00_0000_0000
GLOBAL: Final = 0x1_0000
SLOTS: Final = 0x10_0000
SLOT_SIZE: Final = 0x8000
HEADER: Final = SLOTS - SLOT_SIZE
SLOTS_PER_REGION: Final = 127
REGION_SIZE: Final = SLOT_SIZE * (SLOTS_PER_REGION + 1)
MAX_REGIONS_PER_SPACE: Final = 64
STUB_END: Final = STUB_BASE + SLOTS + SLOT_SIZE * SLOTS_PER_REGION * MAX_REGIONS_PER_SPACE
REGIONS: Final = 4096  # of the arena: how many address spaces at once
HEADER_ENTRY: Final = 32  # bytes per slot in the header: what a guest may know without asking (u32 each), below
PUBLISHED_PID: Final = 0
PUBLISHED_TID: Final = 4
PUBLISHED_PPID: Final = 8

# --- published files (stub/local.S): what reads and writes of a descriptor the stub may answer itself ---
FILE_ROWS: Final = 0x1000  # in the header: a u64 per descriptor, 0: ask
FILE_ROW_COUNT: Final = 512
FILE_SINK: Final = 1  # a write takes all and looks at nothing
FILE_EMPTY: Final = 2  # a read is at the end of file
FILE_ZERO: Final = 4  # a read gives zeros
FILE_READ: Final = 8  # pread64 below the size is a copy from the window
FILE_WRITE: Final = 0x10  # pwrite64 below the size is a copy into it
FILE_NOTE_READS: Final = 0x20  # note when it was read
FILE_RING_IN: Final = 0x40  # a read takes from a ring,
FILE_RING_OUT: Final = 0x80  # a write puts into one: those of an entry of RINGS, whose number is where a unit would be
FILE_RING_SOCKET: Final = 63  # the bit that says that send and recv do the same
FILE_RING_WAITS: Final = 61  # the bit that says that who finds nothing to read may sleep until there is something
FILE_COUNTER: Final = 60  # the bit that says that it is an eventfd, whose counter lies at the beginning of a window,
FILE_COUNTER_BY_ONE: Final = 59  # and this one that a read takes 1 (EFD_SEMAPHORE)
FILE_UNIT_SHIFT: Final = 8  # in a row with a window: its number, in FILE_UNITs from FILE_WINDOWS,
FILE_UNIT_MASK: Final = 0xF_FFFF
FILE_SIZE_SHIFT: Final = 28  # and how many bytes of it are the file's
FILE_UNIT: Final = 20  # its shift
FILE_POLL_KNOWN: Final = 62  # the bit that says that poll and select need not ask: of a file without a window, the bits
FILE_ABSENT_SHIFT: Final = 28  # of poll(2) that are not there stand here (16 of them); those of its rings are looked up
FILE_WINDOWS: Final = STUB_BASE + 0x1_0000_0000  # in every guest address space, hidden: mappings of files
FILE_WINDOWS_END: Final = FILE_WINDOWS + 0x40_0000_0000
FILE_NOTES: Final = FILE_WINDOWS  # the first unit: two time stamps per descriptor, last written and last read
FILE_NOTES_SIZE: Final = 0x2000
FILE_NOTES_AT: Final = 0x4000  # they lie here in the space's first region, behind the header
FILE_LOCAL_MAX: Final = 0x10_0000  # bytes; longer copies are asked for, so that a signal never waits for one

# --- the log of local mappings (stub/local_maps.S), in the header: what the stub may map, and what it mapped ---
MAP_LOG: Final = 0x6000
MAP_LOW: Final = MAP_LOG  # u64, no mapping goes below; 0: ask
MAP_LEAST: Final = MAP_LOG + 8  # u64, shorter ones are asked for: they might fit into a hole above
MAP_HEAD: Final = MAP_LOG + 16  # u64, how many entries there are (16 bits), and above that how often they changed
MAP_COUNT_BITS: Final = 16
MAP_ENTRIES: Final = MAP_LOG + 24  # u64 each: where a mapping begins, and its protection; it ends where the one before
MAP_MOST: Final = 500  # begins. Entry 0 is where the first one ends. At most so many besides.
MAP_MAX: Final = 0x400_0000  # bytes of one mapping: 64 MiB
MAP_KEPT: Final = MAP_LOG + 0xFC0  # u64, so many bytes below the last mapping were one: the host still has their pages,
MAP_KEPT_MAX: Final = 0x1_0000  # to which there is no access. At most so many
ADVISE_LOW: Final = MAP_LOG + 0xFE0  # u64 each: where the stub may give memory back by itself (madvise);
ADVISE_HIGH: Final = MAP_LOG + 0xFE8  # all that the host has mapped there is the guest's own. 0: ask

# --- rings (stub/rings.S), in the header: where words and bytes of a stream lie in its window (protocol/rings.py) ---
RINGS: Final = 0x7000  # RING_ENTRY bytes each: the ring that is read,
RING_COUNT: Final = 64
RING_ENTRY_SHIFT: Final = 6
RING_IN_WORDS: Final = 0  # u64, guest address of its words
RING_IN_BYTES: Final = 8  # u64, and of its bytes
RING_IN_SIZE: Final = 16  # u64, a power of two
RING_OUT_ROOM: Final = 24  # u32, how much of the one that is written must be free
RING_OUT_BITS: Final = 28  # u32, for these bits of poll(2)
RING_OUT_WORDS: Final = 32  # the same of the one that is written,
RING_OUT_BYTES: Final = 40
RING_OUT_SIZE: Final = 48
RING_OUT_LIMIT: Final = 56  # u64, and how many bytes may be in it
RING_IN_BITS: Final = 0x41  # POLLIN | POLLRDNORM: the bits that tell of something to read
RING_TAIL: Final = 0  # a ring's words, from the first: u64,
RING_HEAD: Final = 64  # u64,
RING_CONSUMER_WAITS: Final = 128  # u32, how much must be in it for the consumer to be told; 0: it does not wait
RING_SLEEPS: Final = 1 << 31  # in that word: a thread sleeps on it in futex, and is to be woken
RING_PRODUCER_WAITS: Final = 192  # u32, how much of it must be free for the producer to be told; 0: it does not wait

# --- counters (stub/counters.S): an eventfd's page. Who waits says so as in a ring: a reader, or somebody who polls, in
# RING_CONSUMER_WAITS, a writer in RING_PRODUCER_WAITS
COUNTER_VALUE: Final = 0  # u64
COUNTER_MAX: Final = 0xFFFF_FFFF_FFFF_FFFE  # no write makes more of it
COUNTER_HELD: Final = 0xFFFF_FFFF_FFFF_FFFF  # it is the Sentry's: ask
COUNTER_IN: Final = 1  # POLLIN: it is not 0
COUNTER_OUT: Final = 4  # POLLOUT: it is less than the most

# --- changes of mappings by calls that trapped (stub/trapped.c), in the header: what is allowed, and what was done ---
CHANGES: Final = 0x3000
CHANGES_OPEN: Final = CHANGES  # u64, 0: ask
CHANGES_COUNT: Final = CHANGES + 8  # u64, how many entries there are
# The window: what was mapped last of a file that is still handed in, and what may be mapped over it
WINDOW_LOW: Final = CHANGES + 16  # u64, from here
WINDOW_HIGH: Final = CHANGES + 24  # u64, to here; 0: nothing. Anonymous memory, or of the file
WINDOW_FD: Final = CHANGES + 32  # u64, that is the guest's descriptor
WINDOW_NUMBER: Final = CHANGES + 40  # u64, and was handed in as this one,
WINDOW_BASE: Final = CHANGES + 48  # u64, where byte 0 lies there,
WINDOW_PROT: Final = CHANGES + 56  # u64, at most so
# The gap: where new anonymous memory goes, from its upper end on
GAP_LOW: Final = CHANGES + 64  # u64
GAP_HIGH: Final = CHANGES + 72  # u64, what is left of it ends here; 0: ask
GAP_LEAST: Final = CHANGES + 80  # u64, shorter mappings are asked for: they might fit into a hole above
BREAK: Final = CHANGES + 88  # u64, the program break, 0: ask
REMOVABLE: Final = CHANGES + 0x60  # 2 * u64 each, from where to where: mappings that may be unmapped whole
REMOVABLE_COUNT: Final = 2
CHANGE_ENTRIES: Final = CHANGES + 0x80  # 4 * u64 each: address, length, protection and kind, offset in the file
CHANGE_SIZE: Final = 32
CHANGES_MOST: Final = 96
CHANGE_KIND_SHIFT: Final = 32
CHANGE_PROTECTION: Final = 1  # kinds: mprotect that takes write permission away, as far as all is mapped,
CHANGE_ANONYMOUS: Final = 2  # in the window private memory,
CHANGE_FILE: Final = 3  # or a private mapping of the file;
CHANGE_NEW: Final = 4  # private memory in the gap;
CHANGE_REMOVED: Final = 5  # munmap;
CHANGE_NEW_FILE: Final = 6  # a private mapping of the file that was opened last, in the gap: then it is the window

MAX_RW: Final = 0x7FFF_F000  # MAX_RW_COUNT of Linux
USER_END: Final = 0x7FFF_FFFF_F000  # TASK_SIZE_MAX: no buffer reaches beyond

# --- poll and select (stub/polls.S) ---
POLL_MOST: Final = 64  # entries of struct pollfd; more are asked for
SELECT_MOST: Final = 1024  # bits of a set, but only the first word may have some
# What is put by meanwhile, in the room of operations:
POLL_SETS: Final = 0x180  # 3 * u64, the sets,
POLL_TIME: Final = 0x198  # 2 * u64, and the time-out as they came;
POLL_TIME_AT: Final = 0x1A8  # u64, where the time-out is to be changed, 0: nowhere
POLL_TIME_LEFT: Final = 0x1B0  # 2 * u64, to this
POLL_EXCEPTS: Final = 0x1C0  # u64, the third set as it is to be
POLL_COUNT: Final = 0x1C8  # u32, the result,
POLL_ASKED: Final = 0x1CC  # u32, whether there was any descriptor
POLL_TRIES: Final = 0x1D0  # u32, how often to try to put things back as they were
POLL_REVENTS: Final = 0x200  # u16 by how many entries are left from there on

# --- the standing answer (stub/answers.S): what one call gives until the Sentry does anything; in the header ---
ANSWER: Final = 0x2000  # u64, its key: serial number above, kind and descriptor below, as next; 0: none
ANSWER_EPOLL: Final = 1 << 24  # kinds: of epoll_wait,
ANSWER_STAT: Final = 2 << 24  # and of fstat
ANSWER_FDS: Final = 1 << 24  # descriptors from here on do not fit
ANSWER_RESULT: Final = ANSWER + 8  # u64, of the call
ANSWER_WORDS: Final = ANSWER + 16  # u64, how many u32 of data
ANSWER_DATA: Final = ANSWER + 24
ANSWER_MAX: Final = 0x1E0  # bytes of data
EPOLL_EVENTS_MAX: Final = 0x7FFF_FFFF // 12  # EP_MAX_EVENTS of Linux

# --- the file that was opened last by a call that trapped (stub/trapped.c), in the header: until the next event ---
OPENED: Final = 0x2400
OPENED_FD: Final = OPENED  # u64, the guest's descriptor and 1; 0: ask
OPENED_CLOSED: Final = OPENED + 8  # u64, the stub closed it
OPENED_POSITION: Final = OPENED + 16  # u64, where the next read begins
OPENED_KNOWN: Final = (
    OPENED + 24
)  # u64, of so many bytes less 1 it is known what they are, and of the struct stat; 0: ask
OPENED_SINCE: Final = OPENED + 32  # u64, the processor's counter when it was opened
OPENED_NUMBER: Final = OPENED + 40  # u64, the number under which it is handed in, 0: it is not
OPENED_BASE: Final = OPENED + 48  # u64, where byte 0 lies there
OPENED_PROT: Final = OPENED + 56  # u64, with no more than this may it be mapped
OPENED_REMOVABLE: Final = OPENED + 64  # u64, whether nobody notices when such a mapping goes
OPENED_STAT: Final = OPENED + 0x80  # its struct stat,
OPENED_STAT_SIZE: Final = 144
OPENED_HEAD: Final = OPENED + 0x180  # and what it begins with
OPENED_HEAD_SIZE: Final = 0x400
# Files that a program's start will map, handed in with its own:
AHEAD: Final = OPENED + 0x600  # u64 each, their numbers, one after the other; 0: there is none
AHEAD_MOST: Final = 6
AHEAD_END: Final = AHEAD + 8 * AHEAD_MOST  # u64, they are to be closed
# What a new program asks about itself (stub/trapped.c):
LIMITS: Final = OPENED + 0x700  # 2 * u64 each, its resource limits by number, soft and hard,
LIMITS_COUNT: Final = 16
LIMITS_KNOWN: Final = LIMITS + 16 * LIMITS_COUNT  # u64, if this is not 0
MISSED_RSEQ: Final = LIMITS_KNOWN + 8  # u64, how often it asked for rseq(2), which is not there, and 1; 0: ask
MASKS_TRAPPED: Final = MISSED_RSEQ + 8  # u64, how many calls of rt_sigprocmask(2) trapped while MASK_TRAPS:
MASKS_SHOWN: Final = 8  # one of so many is asked for all the same, and so its site is patched once it is hot
# Its first calls with path names, in the order in which it will make them, and what they give (stub/trapped.c):
PATHS_LIVE: Final = OPENED + 0x840  # u64, of so many it is known; 0: ask
PATHS_NEXT: Final = PATHS_LIVE + 8  # u64, how many were made
PATHS_SINCE: Final = PATHS_LIVE + 16  # u64, the processor's counter when this was found
PATHS: Final = 2 * SLOT_SIZE  # PATH_SIZE each, where the slot of a second thread would lie
PATHS_MOST: Final = 6
PATH_SIZE: Final = 0x600
PATH_NR: Final = 0  # u64, which call,
PATH_FLAGS: Final = 8  # u64, with which flags or mode,
PATH_RESULT: Final = 16  # i64, and what it gives
PATH_LENGTH: Final = 24  # u64, how many bytes the name has, its NUL among them
PATH_FIRST: Final = 32  # u64, how many changes of mappings there were when the file was opened, says the stub
PATH_KNOWN: Final = 40  # u64 each, what becomes OPENED_KNOWN,
PATH_NUMBER: Final = 48  # OPENED_NUMBER,
PATH_BASE: Final = 56  # OPENED_BASE,
PATH_PROT: Final = 64  # OPENED_PROT,
PATH_REMOVABLE: Final = 72  # and OPENED_REMOVABLE
PATH_NAME: Final = 0x60
PATH_NAME_SIZE: Final = 0xA0
PATH_STAT: Final = 0x100
PATH_HEAD: Final = 0x200

# --- saved memory (stub/saved_memory.c), at the end of a region, where the slots of so many threads would lie ---
LOAN: Final = REGION_SIZE - 0x8_0000  # from the header on
LOAN_COUNT: Final = LOAN  # u64, how many ranges there are
LOAN_RANGES: Final = LOAN + 16  # 2 * u64 each, address and length
LOAN_RANGES_MOST: Final = 60
LOAN_BYTES: Final = LOAN + 0x1000  # what they hold, one after the other
LOAN_MOST: Final = REGION_SIZE - LOAN_BYTES
LOAN_SLOTS: Final = LOAN // SLOT_SIZE - 1  # as long as no more were in use

DOORBELL_FD: Final = 60  # the only fds a guest process holds: these two,
ARENA_FD: Final = 61
DONATED_FD: Final = 64  # and, while they are being mapped, host files under this number and on
DONATED_FDS: Final = 896  # in all: a thousand descriptors are always allowed
RECYCLED_FDS: Final = 8  # of these a process may have had, if another program is to have it (recycling.py)

# --- one slot, byte offsets ---
STATE: Final = 0x00  # u32, below
KIND: Final = 0x04  # u32, what happened (event kinds below)
NR: Final = 0x08  # u64, system-call number
RESULT: Final = NR  # u64, the answer takes its place: so it comes with the state word
ARGS: Final = 0x10  # 6 * u64; the event ends with the first cache line, for each line changes hands at every call
WORD: Final = 0x40  # u32, the futex word that a patched call of futex brought along, and behind it
WORD_WAKES: Final = 0x44  # u32, what WAKES was before the word was read (0: it could not be read)
PATIENCE: Final = 0x48  # i32, the thread's own: above 0 when its last long waits ended soon (stub_wait)
HOLD: Final = 0x4C  # u32, the thread's own: how far below 0 PATIENCE was set last
REGS: Final = 0x50  # 23 * u64, as in ucontext's gregs
SIGNO: Final = 0x108  # u32 host signal of a fault
SIGCODE: Final = 0x10C  # u32 its si_code
SIGADDR: Final = 0x110  # u64 its si_addr
UCONTEXT: Final = 0x118  # u64, guest address of the saved frame's ucontext
FS_BASE: Final = 0x120  # u64
SELF: Final = 0x128  # u64, guest address of this slot
FLAGS: Final = 0x140  # u32: 1 = set FS base from FS_BASE before returning
OP_COUNT: Final = 0x144  # u32, operations posted in OPS
WAITING: Final = 0x148  # u32, 1 while the thread sleeps in futex
COMMAND: Final = 0x14C  # u32, what the thread is to do next
SAVED_RSP: Final = 0x130  # u64, guest stack pointer while a patched call runs on the signal stack
RETURN: Final = 0x138  # u64, where the patched call site goes on
FILE_TABLE: Final = 0x150  # u64, guest address of FILE_ROWS if this thread may use them, else 0
PUBLISHED: Final = 0x158  # u64, guest address of this thread's entry in the header, 0: none
# What the thread told its stub for later (stub/trapped.c): TOLD_ALLOWED says that it may,
TOLD: Final = 0x160  # u32, the others that it did
TOLD_ALLOWED: Final = 1
TOLD_ROBUST: Final = 2  # set_robust_list(2)
TOLD_TID: Final = 4  # set_tid_address(2)
TRAPS_LEFT: Final = 0x164  # u32, how many calls that trap the stub may still answer by itself
ROBUST_LIST: Final = 0x168  # u64
CLEAR_TID: Final = 0x170  # u64
SLEEPS: Final = 0x178  # u32, odd while the thread sleeps for a ring (stub/rings.S): counts when that begins and ends
OPS: Final = 0x180  # up to MAX_OPS operations of OP_SIZE: nr, 6 arguments, result
OP_SIZE: Final = 64
MAX_OPS: Final = 32
DROP: Final = OPS + OP_SIZE * MAX_OPS  # u32, a descriptor to close before anything else is done, 0: none
# What is to be copied out on the way back, in one piece, in the room of operations, which come at other times:
COPY_RESULT: Final = OPS  # u64, what RESULT is then
COPY_TO: Final = OPS + 8  # u64 guest address
COPY_LENGTH: Final = OPS + 16  # u64
COPY_DATA: Final = OPS + 24
# u64, the thread's signal mask while its stub may answer rt_sigprocmask (stub/local_mask.S), and that it may; else 0.
# The flags are the bits of signals that cannot be blocked.
MASK: Final = DROP + 8
MASK_SHARED: Final = 1 << 8  # SIGKILL: the stub may change it
MASK_TRAPS: Final = 1 << 18  # SIGSTOP: also for calls that trapped
# What rt_sigreturn (stub/local_sigreturn.S) must find in a frame to need no Sentry, while MASK_SHARED:
ALT_SP: Final = MASK + 8  # u64 each: the alternate stack as sigaltstack(2) took it,
ALT_FLAGS: Final = MASK + 16
ALT_SIZE: Final = MASK + 24
XSTATE_SIZE: Final = MASK + 32  # u64, and how long a floating-point image is, without FP_MAGIC2 behind it; 0: ask
OTHER: Final = MASK + 40  # u64, the guest address of the slot that COMMAND_MOVE leads to
FP_MAGIC1: Final = 0x46505853
FP_MAGIC2: Final = 0x46505845
BUFFER: Final = 0x1000  # what a new process is told at its start
BUFFER_SIZE: Final = 0x2000
# And later what a new program's memory is to hold (stub/first_contents.c):
FILL_COUNT: Final = BUFFER  # u64, how many rows there are; the stub makes it 0 when it is done
FILL_ROWS: Final = BUFFER + 8  # 3 * u64 each: address, length, where in the slot its bytes are; 0: it is zeros
FILL_ROWS_MOST: Final = 8
FILL_BYTES: Final = FILL_ROWS + 24 * FILL_ROWS_MOST
FILL_MOST: Final = BUFFER + BUFFER_SIZE - FILL_BYTES
IN_LENGTH: Final = 0x3000  # u64, bytes in IN: of a buffer or structure, or of a path name and its NUL
IN: Final = IN_LENGTH + 8  # small buffers, structures and path names, brought along (SYSCALL_BROUGHT, STRUCT_BROUGHT)
IN_SIZE: Final = 0x0FF8
# Larger buffers are cheaper fetched: every line of a slot changes hands between two caches.
IN_BUFFER_MAX: Final = 0x100
# A byte of the table that says which calls bring a structure along (stub_brings in stub/entry.S):
BRINGS_ARGUMENT: Final = 7  # which argument points to it, from 1 on,
BRINGS_SHIFT: Final = 3  # and how many u32 it has,
BRINGS_VECTORS: Final = 31  # or: so many struct iovec as the next argument says,
BRINGS_POLLFDS: Final = 30  # so many struct pollfd
BRINGS_COUNT: Final = 289  # of system calls in the table
STACK: Final = 0x4000  # the signal stack: STACK..SLOT_SIZE
FRESH_FRAME: Final = SLOT_SIZE - 0x400  # ucontext of a frame that the Sentry makes
FLAGS_AT_START: Final = 0x202  # of a new thread: IF, and the bit that is always set
SEGMENTS_64: Final = 0x33 | 0x2B << 48  # cs, ss of 64-bit user code
# Where the stack of a thread that waits for its next task begins: signal frames lie above, at the top of the stack (a
# new one is written there meanwhile), and there is room below for one more.
PARK_STACK: Final = STACK + 0x1C00

# --- states ---
RUNNING: Final = 0  # the thread runs guest code (or is to)
READY: Final = 1  # an event was posted
RESUME: Final = 2  # the Sentry answered
BLOCKED: Final = 3  # the Sentry took the event and will answer much later: sleep at once
RETURN_NOW: Final = 4  # the Sentry answered with RESULT and nothing else: the hot form of RESUME

PARK: Final = 5  # the task is gone: leave its frames, sleep (as BLOCKED) until the slot has a new one
COPY_NOW: Final = 6  # as RETURN_NOW, after a copy: the hot form of COMMAND_COPY_OUT

# --- event kinds ---
SYSCALL_FAST: Final = 1  # from a patched call site: registers are live, only NR and ARGS are valid
SYSCALL: Final = 2  # from SIGSYS: REGS and the frame are valid
FAULT: Final = 3
INTERRUPTED: Final = 4
OPS_DONE: Final = 5
FRAME_TAKEN: Final = 6  # the answer to COMMAND_TAKE_FRAME
SYSCALL_BROUGHT: Final = 7  # as SYSCALL_FAST, and what is in IN came along
RING_MOVED: Final = 8  # a call from a patched site was done on a ring, and the other side waits for it; NR: its result
STRUCT_BROUGHT: Final = 9  # as SYSCALL_FAST, and what the first argument points to came along; +1: the second, to the
STRUCT_BROUGHT_LAST: Final = STRUCT_BROUGHT + 5  # sixth

# --- commands ---
COMMAND_RETURN: Final = 0  # back to the guest with RESULT
COMMAND_RESTORE: Final = 1  # back with all of REGS (only where a frame is)
COMMAND_OPS: Final = 2  # carry out OPS, stop at the first failure
COMMAND_EXIT: Final = 3  # end this host thread
COMMAND_TAKE_FRAME: Final = 4  # leave the patched path: save everything in a signal frame
COMMAND_CLONE: Final = 5  # OPS[0] = clone's arguments; OPS[1..] = the child's start values
COMMAND_COPY_OUT: Final = 6  # copy COPY_DATA to COPY_TO, then as RETURN
COMMAND_OPS_RETURN: Final = 7  # as OPS; when all succeed, go on as RETURN without asking
COMMAND_RECYCLE: Final = 8  # the program is gone: get ready for another one (stub/recycle.S)
COMMAND_SAVE: Final = 9  # save the memory that LOAN_RANGES name,
COMMAND_PUT_BACK: Final = 10  # and put it back
COMMAND_MOVE: Final = 11  # leave this slot (BLOCKED says so), go on in OTHER as that one says
COMMAND_FILL: Final = 12  # write what FILL_ROWS say, then as RESTORE

# --- global page ---
ARMED: Final = 0x00  # u32: the Sentry sleeps, ring the doorbell
SPIN: Final = 0x04  # u32: how many pauses to spin before sleeping
YIELDS: Final = 0x08  # u32: how often a thread whose answer takes long may yield its processor before sleeping
WAKES: Final = 0x0C  # u32: changes with every futex wake-up that is served, never 0

KICK_SIGNAL: Final = 23  # SIGURG: "look at your signals"


def CONSTANTS() -> dict[str, int]:
    """Every integer constant above, by name: what build.py writes into the C header."""
    return {name: value for name, value in globals().items() if name.isupper() and isinstance(value, int)}

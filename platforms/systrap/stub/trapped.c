/* Calls that trapped and are answered in the signal handler, with no event to the Sentry: what a program does while it
 * starts, when none of its call sites is patched. The thread gets so many of them (TRAPS_LEFT); afterwards all are asked,
 * are counted, and their sites are patched when they are hot.
 *
 * Signals are held back here, so each call is done or is not when a kick finds the thread. The guest's memory is touched by
 * stub_user_copy alone: a fault there makes an ordinary call of it, anywhere else it would end the process.
 *
 * Four kinds of calls. What only matters later is kept in the slot, where the Sentry looks when it does
 * (`Task.robust_list`). Changes of mappings are host calls that the filter lets through by their arguments alone (filter.py,
 * is_direct), each an entry of a log that the Sentry reads before it looks at the areas (services/sentry/mm/
 * local_changes.py): its grant is one thread's, as that of local_maps.S. And of the file that was opened last, by a call
 * that trapped, what it begins with and its struct stat are known for a moment, and it may be mapped and closed (mm/
 * opened_file.py). What it asks about itself (its limits; a call that is not there) is known beforehand, and so are its
 * first calls with path names, if it starts as the last time (kernel/first_paths.py). All concern nobody but this guest,
 * whatever it writes there. */
#include "stub.h"

enum { NR_READ = 0, NR_CLOSE = 3, NR_FSTAT = 5, NR_MMAP = 9, NR_MPROTECT = 10, NR_MUNMAP = 11, NR_BRK = 12, NR_PREAD = 17, NR_ACCESS = 21, NR_ARCH_PRCTL = 158, NR_SET_TID_ADDRESS = 218, NR_OPENAT = 257, NR_NEWFSTATAT = 262, NR_SET_ROBUST_LIST = 273, NR_PRLIMIT = 302, NR_RSEQ = 334, NO_NR = -1 };
enum { ARCH_SET_FS = 0x1002, ROBUST_LIST_SIZE = 24 };
enum { PRIVATE_FIXED = 0x12, PRIVATE_ANONYMOUS = 0x22, ANONYMOUS = 0x20, NO_MEANING = 0x1800 /* DENYWRITE, EXECUTABLE */, HINTS = 0x24000 /* NORESERVE, STACK */ };
enum { PRIVATE = 2, AT_EMPTY_PATH = 0x1000 };
#define PAGE_MASK 0xffful
#define MOST_BYTES (1ul << 31)
#define RECENT (1ul << 20) /* cycles, some hundreds of microseconds: what a file holds changes on the host, too */
#define STARTING (1ul << 23) /* a few milliseconds: and where names lead */

extern const volatile u64 stub_vdso[2]; /* recycle.S */
extern i64 stub_close(u64 fd);

/* Copy from or to the guest's memory: 0, or 1 when it faults (stub_handler). And compare it (saved_memory.c),
 * or make it zeros (first_contents.c). */
extern int stub_user_copy(u64 to, u64 from, u64 length);
__asm__(
    "  .text\n"
    "  .globl stub_user_copy, stub_user_copy_begin, stub_user_copy_end, stub_user_copy_fault\n"
    "  .hidden stub_user_copy, stub_user_copy_begin, stub_user_copy_end, stub_user_copy_fault\n"
    "stub_user_copy:\n"
    "  mov %rdx, %rcx\n"
    "stub_user_copy_begin:\n"
    "  rep movsb\n"
    "1:xor %eax, %eax\n"
    "  ret\n"
    "  .globl stub_user_clear\n"
    "  .hidden stub_user_clear\n"
    "stub_user_clear:\n"
    "  mov %rsi, %rcx\n"
    "  xor %eax, %eax\n"
    "  rep stosb\n"
    "  jmp 1b\n"
    "  .globl stub_user_differs\n"
    "  .hidden stub_user_differs\n"
    "stub_user_differs:\n"
    "  add %rdi, %rdx\n"
    "  lea -32(%rdx), %r11\n"
    "2:cmp %r11, %rdi\n"
    "  ja 3f\n"
    "  mov (%rdi), %rax\n"
    "  mov 8(%rdi), %rcx\n"
    "  mov 16(%rdi), %r8\n"
    "  mov 24(%rdi), %r9\n"
    "  xor (%rsi), %rax\n"
    "  xor 8(%rsi), %rcx\n"
    "  xor 16(%rsi), %r8\n"
    "  xor 24(%rsi), %r9\n"
    "  or %rcx, %rax\n"
    "  or %r9, %r8\n"
    "  add $32, %rdi\n"
    "  add $32, %rsi\n"
    "  or %r8, %rax\n"
    "  jz 2b\n"
    "  jmp stub_user_copy_fault\n"
    "3:cmp %rdx, %rdi\n"
    "  jae 1b\n"
    "  mov (%rdi), %rax\n"
    "  cmp (%rsi), %rax\n"
    "  jne stub_user_copy_fault\n"
    "  add $8, %rdi\n"
    "  add $8, %rsi\n"
    "  jmp 3b\n"
    "stub_user_copy_end:\n"
    "stub_user_copy_fault:\n"
    "  mov $1, %eax\n"
    "  ret\n");

static u64 pages(u64 length) { return (length + PAGE_MASK) & ~PAGE_MASK; }

/* Whether whole pages at `addr` are none of the platform's, so that the filter does not ask. */
static int is_guests(u64 addr, u64 length) {
  u64 end = addr + length;
  if ((addr & PAGE_MASK) || length - 1 >= MOST_BYTES || end < addr) return 0;
  if (end <= STUB_BASE - (4ul << 32)) return 1;
  return addr >= FILE_WINDOWS_END && end <= USER_END && (end <= stub_vdso[0] || addr >= stub_vdso[1]);
}

static int has_room(void) { return HEAD64(CHANGES_OPEN) && HEAD64(CHANGES_COUNT) < CHANGES_MOST; }

static void note(u64 kind, u64 addr, u64 length, u64 prot, u64 offset) {
  u64 count = HEAD64(CHANGES_COUNT), at = CHANGE_ENTRIES + count % CHANGES_MOST * CHANGE_SIZE;
  HEAD64(at) = addr;
  HEAD64(at + 8) = length;
  HEAD64(at + 16) = prot | kind << CHANGE_KIND_SHIFT;
  HEAD64(at + 24) = offset;
  HEAD64(CHANGES_COUNT) = count + 1; /* stores become visible in order */
}

/* mmap(2) over part of what was mapped of a file last. A host that fails leaves a hole, or what was there: asked then. */
static int map(const volatile u64 *gregs, i64 *result) {
  u64 addr = gregs[G_RDI], length = pages(gregs[G_RSI]), prot = gregs[G_RDX], flags = gregs[G_R10], offset = gregs[G_R9];
  u64 kind = flags & ANONYMOUS ? CHANGE_ANONYMOUS : CHANGE_FILE;
  u64 high = HEAD64(WINDOW_HIGH);
  if ((flags & ~(u64)(ANONYMOUS | NO_MEANING | HINTS)) != PRIVATE_FIXED || prot & ~HEAD64(WINDOW_PROT)) return 0;
  if (!has_room() || !is_guests(addr, length)) return 0;
  if (addr < HEAD64(WINDOW_LOW) || addr >= high || length > high - addr) return 0;
  u64 op[7] = {NR_MMAP, addr, length, prot, PRIVATE_FIXED | (flags & (ANONYMOUS | HINTS)), -1ul, 0};
  if (kind == CHANGE_FILE) {
    if ((u32)gregs[G_R8] != HEAD64(WINDOW_FD) || (offset & PAGE_MASK) || offset >> 62) return 0;
    op[5] = HEAD64(WINDOW_NUMBER);
    op[6] = HEAD64(WINDOW_BASE) + offset;
    if (op[5] - DONATED_FD >= DONATED_FDS) return 0; /* the filter would ask */
  }
  if ((u64)stub_op(op) != addr) return 0;
  note(kind, addr, length, prot, offset);
  *result = (i64)addr;
  return 1;
}

/* mmap(2) of private anonymous memory, anywhere: where Linux would put it. */
static int map_new(const volatile u64 *gregs, i64 *result) {
  u64 length = pages(gregs[G_RSI]), prot = gregs[G_RDX], flags = gregs[G_R10];
  u64 high = HEAD64(GAP_HIGH), addr = high - length;
  if ((flags & ~(u64)HINTS) != PRIVATE_ANONYMOUS || prot > 3 || (gregs[G_R9] & PAGE_MASK) || !has_room()) return 0;
  if (length - 1 >= MAP_MAX || length < HEAD64(GAP_LEAST) || length > high || addr < HEAD64(GAP_LOW)) return 0;
  if (!is_guests(addr, length)) return 0;
  u64 op[7] = {NR_MMAP, addr, length, prot, PRIVATE_FIXED | ANONYMOUS | (flags & HINTS), -1ul, 0};
  if ((u64)stub_op(op) != addr) return 0;
  note(CHANGE_NEW, addr, length, prot, 0);
  HEAD64(GAP_HIGH) = addr;
  *result = (i64)addr;
  return 1;
}

/* munmap(2) of a mapping that may go. It leaves a hole in which new memory may belong: that is asked for from now on. */
static int unmap(const volatile u64 *gregs, i64 *result) {
  u64 addr = gregs[G_RDI], length = pages(gregs[G_RSI]), end = addr + length;
  if (!has_room() || !is_guests(addr, length)) return 0;
  for (u64 at = REMOVABLE; at < REMOVABLE + 16 * REMOVABLE_COUNT; at += 16) {
    if (HEAD64(at) != addr || HEAD64(at + 8) != end) continue;
    u64 op[7] = {NR_MUNMAP, addr, length, 0, 0, 0, 0};
    if (stub_op(op)) return 0;
    HEAD64(at + 8) = 0;
    HEAD64(GAP_LEAST) = ~0ul;
    note(CHANGE_REMOVED, addr, length, 0, 0);
    *result = 0;
    return 1;
  }
  return 0;
}

/* mprotect(2) that gives nothing. What is mapped is the guest's, so the host's answer is right: ENOMEM at a hole, when all
 * below it is done. */
static int protect(const volatile u64 *gregs, i64 *result) {
  u64 addr = gregs[G_RDI], length = pages(gregs[G_RSI]), prot = gregs[G_RDX];
  if (prot > 1 || !has_room() || !is_guests(addr, length)) return 0;
  u64 op[7] = {NR_MPROTECT, addr, length, prot, 0, 0, 0};
  *result = stub_op(op);
  if (*result && *result != -12) return 0;
  note(CHANGE_PROTECTION, addr, length, prot, 0);
  return 1;
}

/* mmap(2) of the file that was opened last, anywhere. What comes next may be mapped over it. */
static int map_opened(const volatile u64 *gregs, i64 *result) {
  u64 length = pages(gregs[G_RSI]), prot = gregs[G_RDX], fd = (u32)gregs[G_R8], offset = gregs[G_R9];
  u64 high = HEAD64(GAP_HIGH), addr = high - length, number = HEAD64(OPENED_NUMBER), base = HEAD64(OPENED_BASE);
  if ((gregs[G_R10] & ~(u64)NO_MEANING) != PRIVATE || prot & ~HEAD64(OPENED_PROT) || HEAD64(OPENED_FD) != fd + 1) return 0;
  if ((offset & PAGE_MASK) || offset >> 62 || number - DONATED_FD >= DONATED_FDS || !has_room()) return 0;
  if (length - 1 >= MAP_MAX || length < HEAD64(GAP_LEAST) || length > high || addr < HEAD64(GAP_LOW)) return 0;
  if (!is_guests(addr, length)) return 0;
  u64 op[7] = {NR_MMAP, addr, length, prot, PRIVATE_FIXED, number, base + offset};
  if ((u64)stub_op(op) != addr) return 0;
  note(CHANGE_NEW_FILE, addr, length, prot, offset);
  HEAD64(GAP_HIGH) = addr;
  HEAD64(WINDOW_FD) = fd;
  HEAD64(WINDOW_NUMBER) = number;
  HEAD64(WINDOW_BASE) = base;
  HEAD64(WINDOW_PROT) = HEAD64(OPENED_PROT);
  HEAD64(WINDOW_LOW) = addr;
  HEAD64(WINDOW_HIGH) = high;
  for (u64 at = REMOVABLE; HEAD64(OPENED_REMOVABLE) && at < REMOVABLE + 16 * REMOVABLE_COUNT; at += 16) {
    if (HEAD64(at + 8)) continue;
    HEAD64(at) = addr;
    HEAD64(at + 8) = high;
    break;
  }
  *result = (i64)addr;
  return 1;
}

static u64 counter(void) { return __builtin_ia32_rdtsc(); }

/* The answer to a call that opened a file is there. */
void stub_note_opened(void) { HEAD64(OPENED_SINCE) = counter(); }

/* What was opened by a call that was foreseen is known as long as those are. */
static int is_known(u64 fd) {
  if (HEAD64(PATHS_NEXT) && !HEAD64(PATHS_LIVE)) return 0;
  return HEAD64(OPENED_FD) == (u32)fd + 1ul && HEAD64(OPENED_KNOWN) && counter() - HEAD64(OPENED_SINCE) < RECENT;
}

/* The step of the program's start that this call is, 0: it is none that was foreseen. */
static u64 next_step(u64 nr, u64 name, u64 flags) {
  u64 next = HEAD64(PATHS_NEXT), step = STUB_BASE + HEADER + PATHS + next * PATH_SIZE;
  if (next >= HEAD64(PATHS_LIVE) || next >= PATHS_MOST || counter() - HEAD64(PATHS_SINCE) > STARTING) return 0;
  u64 length = SLOT64(step, PATH_LENGTH);
  if (SLOT64(step, PATH_NR) != nr || SLOT64(step, PATH_FLAGS) != (u32)flags || length - 1 >= PATH_NAME_SIZE) return 0;
  volatile char given[PATH_NAME_SIZE];
  if (stub_user_copy((u64)given, name, length)) return 0;
  for (u64 k = 0; k < length; k++)
    if (given[k] != *(volatile char *)(step + PATH_NAME + k)) return 0;
  return step;
}

/* A call with a path name that gives an error. */
static int refused(u64 nr, u64 name, u64 flags, i64 *result) {
  u64 step = next_step(nr, name, flags);
  if (!step) return 0;
  *result = (i64)SLOT64(step, PATH_RESULT);
  HEAD64(PATHS_NEXT)++;
  return 1;
}

/* openat(2) of a file that is read: from now on it is the one that was opened last. */
static int open_next(u64 name, u64 flags, i64 *result) {
  if (HEAD64(OPENED_FD) || !HEAD64(CHANGES_OPEN)) return 0;
  u64 step = next_step(NR_OPENAT, name, flags);
  if (!step) return 0;
  i64 fd = *result = (i64)SLOT64(step, PATH_RESULT);
  if (fd >= 0) {
    for (u64 k = 0; k < OPENED_STAT_SIZE; k += 8) HEAD64(OPENED_STAT + k) = SLOT64(step, PATH_STAT + k);
    for (u64 k = 0; k < OPENED_HEAD_SIZE; k += 8) HEAD64(OPENED_HEAD + k) = SLOT64(step, PATH_HEAD + k);
    HEAD64(OPENED_CLOSED) = HEAD64(OPENED_POSITION) = HEAD64(WINDOW_HIGH) = 0;
    HEAD64(OPENED_KNOWN) = SLOT64(step, PATH_KNOWN);
    HEAD64(OPENED_NUMBER) = SLOT64(step, PATH_NUMBER);
    HEAD64(OPENED_BASE) = SLOT64(step, PATH_BASE);
    HEAD64(OPENED_PROT) = SLOT64(step, PATH_PROT);
    HEAD64(OPENED_REMOVABLE) = SLOT64(step, PATH_REMOVABLE);
    HEAD64(OPENED_SINCE) = counter();
    SLOT64(step, PATH_FIRST) = HEAD64(CHANGES_COUNT);
    HEAD64(OPENED_FD) = (u64)fd + 1;
  }
  HEAD64(PATHS_NEXT)++; /* behind PATH_FIRST, and before what is mapped of it */
  return 1;
}

/* fstat(2). */
static int status(u64 fd, u64 to) {
  return is_known(fd) && !stub_user_copy(to, STUB_BASE + HEADER + OPENED_STAT, OPENED_STAT_SIZE);
}

/* fstat(2) as C libraries spell it: with an empty path. */
static int status_at(const volatile u64 *gregs) {
  volatile char first = 1;
  if ((u32)gregs[G_R10] != AT_EMPTY_PATH || !is_known(gregs[G_RDI])) return 0;
  return !stub_user_copy((u64)&first, gregs[G_RSI], 1) && !first && status(gregs[G_RDI], gregs[G_RDX]);
}

/* read(2) and pread64(2) of what the file begins with. */
static int read_at(const volatile u64 *gregs, u64 position, i64 *result) {
  u64 count = gregs[G_RDX], known = HEAD64(OPENED_KNOWN) - 1;
  if (!is_known(gregs[G_RDI]) || known > OPENED_HEAD_SIZE || position > known || count - 1 >= known - position) return 0;
  if (stub_user_copy(gregs[G_RSI], STUB_BASE + HEADER + OPENED_HEAD + position, count)) return 0;
  *result = (i64)count;
  return 1;
}

/* close(2). What was handed in stays so until another kind of call (stub_drop_ahead). */
static int close_opened(u64 fd) {
  if (HEAD64(OPENED_FD) != (u32)fd + 1ul) return 0;
  HEAD64(OPENED_FD) = 0;
  HEAD64(OPENED_CLOSED) = 1;
  HEAD64(WINDOW_HIGH) = 0;
  return 1;
}

/* prlimit64(2) that only asks, of the program itself. */
static int limit(const volatile u64 *gregs) {
  u64 resource = (u32)gregs[G_RSI];
  if ((u32)gregs[G_RDI] || gregs[G_RDX] || !gregs[G_R10] || resource >= LIMITS_COUNT || !HEAD64(LIMITS_KNOWN)) return 0;
  return !stub_user_copy(gregs[G_R10], STUB_BASE + HEADER + LIMITS + 16 * resource, 16);
}

/* The Sentry is going to be asked for call `nr`; `changes_limits`: if that is prlimit64, by more than a question. Files that
 * were handed in ahead go before any call that could take from the program what it was allowed when they came, or give
 * another thread or process what this one has. */
void stub_drop_ahead(u64 slot, u32 nr, int changes_limits) {
  static const unsigned short harmless[] = {
      0 /* read */, 1 /* write */, 2 /* open */, 3 /* close */, 4 /* stat */, 5 /* fstat */, 6 /* lstat */, 7 /* poll */,
      8 /* lseek */, 9 /* mmap */, 10 /* mprotect */, 11 /* munmap */, 12 /* brk */, 13 /* rt_sigaction */,
      14 /* rt_sigprocmask */, 15 /* rt_sigreturn */, 16 /* ioctl */, 17 /* pread64 */, 19 /* readv */, 20 /* writev */,
      21 /* access */, 25 /* mremap */, 28 /* madvise */, 39 /* getpid */, 60 /* exit */, 63 /* uname */, 72 /* fcntl */,
      79 /* getcwd */, 89 /* readlink */, 96 /* gettimeofday */, 97 /* getrlimit */, 99 /* sysinfo */, 102 /* getuid */,
      104 /* getgid */, 107 /* geteuid */, 108 /* getegid */, 110 /* getppid */, 131 /* sigaltstack */, 137 /* statfs */,
      138 /* fstatfs */, 158 /* arch_prctl */, 186 /* gettid */, 202 /* futex */, 204 /* sched_getaffinity */,
      217 /* getdents64 */, 218 /* set_tid_address */, 228 /* clock_gettime */, 231 /* exit_group */, 257 /* openat */,
      262 /* newfstatat */, 267 /* readlinkat */, 269 /* faccessat */, 273 /* set_robust_list */, 302 /* prlimit64 */,
      318 /* getrandom */, 332 /* statx */, 334 /* rseq */, 439 /* faccessat2 */};
  if (nr == NR_PRLIMIT && changes_limits) nr = NO_NR;
  for (unsigned k = 0; SLOT32(slot, TRAPS_LEFT) && k < sizeof harmless / sizeof *harmless; k++)
    if (harmless[k] == nr) return;
  HEAD64(AHEAD_END) = HEAD64(OPENED_NUMBER) = HEAD64(WINDOW_HIGH) = 0;
  for (u64 at = AHEAD; at < AHEAD + 8 * AHEAD_MOST; at += 8) {
    u64 number = HEAD64(at);
    HEAD64(at) = 0;
    if (number) stub_close(number);
  }
}

static int tell(u64 slot, u32 what, u64 word, u64 value) {
  u32 told = SLOT32(slot, TOLD);
  if (!(told & TOLD_ALLOWED)) return 0;
  SLOT64(slot, word) = value;
  SLOT32(slot, TOLD) = told | what;
  return 1;
}

/* A thread is going to end. If it told us of a list of robust futexes and holds none (the list leads to its head, and no
 * operation is pending), nobody need look at it any more. */
void stub_looks_at_robust_list(u64 slot) {
  u64 head[3], at = SLOT64(slot, ROBUST_LIST);
  if (!(SLOT32(slot, TOLD) & TOLD_ROBUST) || !at || stub_user_copy((u64)head, at, sizeof head)) return;
  if (*(volatile u64 *)head == at && !*(volatile u64 *)(head + 2)) SLOT64(slot, ROBUST_LIST) = 0;
}

/* Whether the call that a thread trapped with is done: then rax is its result. */
int stub_trapped(u64 slot, u32 nr, volatile u64 *gregs) {
  i64 result = 0;
  u64 first = gregs[G_RDI], second = gregs[G_RSI];
  switch (nr) {
    case NR_MMAP:
      if (first ? !map(gregs, &result) : gregs[G_R10] & ANONYMOUS ? !map_new(gregs, &result) : !map_opened(gregs, &result)) return 0;
      break;
    case NR_ACCESS:
      if (!refused(nr, first, second, &result)) return 0;
      break;
    case NR_OPENAT:
      if (!open_next(second, gregs[G_RDX], &result)) return 0;
      break;
    case NR_READ:
      if (!read_at(gregs, HEAD64(OPENED_POSITION), &result)) return 0;
      HEAD64(OPENED_POSITION) += result;
      break;
    case NR_PREAD:
      if (!read_at(gregs, gregs[G_R10], &result)) return 0;
      break;
    case NR_FSTAT:
      if (!status(first, second)) return 0;
      break;
    case NR_NEWFSTATAT:
      if (!status_at(gregs)) return 0;
      break;
    case NR_PRLIMIT:
      if (!limit(gregs)) return 0;
      break;
    case NR_RSEQ:
      if (!HEAD64(MISSED_RSEQ)) return 0;
      HEAD64(MISSED_RSEQ)++;
      result = -38; /* ENOSYS */
      break;
    case NR_CLOSE:
      if (!close_opened(first)) return 0;
      break;
    case NR_MUNMAP:
      if (!unmap(gregs, &result)) return 0;
      break;
    case NR_BRK:
      if (first || !HEAD64(BREAK)) return 0;
      result = (i64)HEAD64(BREAK);
      break;
    case NR_MPROTECT:
      if (!protect(gregs, &result)) return 0;
      break;
    case NR_ARCH_PRCTL:
      if ((u32)first != ARCH_SET_FS || second >= USER_END) return 0;
      __asm__ volatile("wrfsbase %0" ::"r"(second));
      break;
    case NR_SET_TID_ADDRESS: {
      u64 ids = SLOT64(slot, PUBLISHED);
      if (!ids || !tell(slot, TOLD_TID, CLEAR_TID, first)) return 0;
      result = (i64)SLOT32(ids, PUBLISHED_TID);
      break;
    }
    case NR_SET_ROBUST_LIST:
      if (second != ROBUST_LIST_SIZE || !tell(slot, TOLD_ROBUST, ROBUST_LIST, first)) return 0;
      break;
    default:
      return 0;
  }
  SLOT32(slot, TRAPS_LEFT)--;
  gregs[G_RAX] = (u64)result;
  return 1;
}

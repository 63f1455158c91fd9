/* Calls that trapped and are answered in the signal handler, with no event to the Sentry: what a program does while it
 * starts, when none of its call sites is patched. The thread gets so many of them (TRAPS_LEFT); afterwards all are asked,
 * are counted, and their sites are patched when they are hot.
 *
 * Signals are held back here, so each call is done or is not when a kick finds the thread. A fault would end the process:
 * the guest's memory is not touched.
 *
 * Two kinds of calls. What only matters later is kept in the slot, where the Sentry looks when it does (`Task.robust_list`).
 * Changes of mappings are host calls that the filter lets through by their arguments alone (filter.py, is_direct), each
 * an entry of a log that the Sentry reads before it looks at the areas (services/sentry/mm/local_changes.py): its grant is
 * one thread's, as that of local_maps.S. Both concern nobody but this guest, whatever it writes there. */
#include "stub.h"

#define HEAD64(off) (*(volatile u64 *)(STUB_BASE + HEADER + (off)))

enum { NR_MMAP = 9, NR_MPROTECT = 10, NR_MUNMAP = 11, NR_BRK = 12, NR_ARCH_PRCTL = 158, NR_SET_TID_ADDRESS = 218, NR_SET_ROBUST_LIST = 273 };
enum { ARCH_SET_FS = 0x1002, ROBUST_LIST_SIZE = 24 };
enum { PRIVATE_FIXED = 0x12, PRIVATE_ANONYMOUS = 0x22, ANONYMOUS = 0x20, NO_MEANING = 0x1800 /* DENYWRITE, EXECUTABLE */, HINTS = 0x24000 /* NORESERVE, STACK */ };
#define PAGE_MASK 0xffful
#define MOST_BYTES (1ul << 31)

extern const volatile u64 stub_vdso[2]; /* recycle.S */

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

static int tell(u64 slot, u32 what, u64 word, u64 value) {
  u32 told = SLOT32(slot, TOLD);
  if (!(told & TOLD_ALLOWED)) return 0;
  SLOT64(slot, word) = value;
  SLOT32(slot, TOLD) = told | what;
  return 1;
}

/* Whether the call that a thread trapped with is done: then rax is its result. */
int stub_trapped(u64 slot, u32 nr, volatile u64 *gregs) {
  i64 result = 0;
  u64 first = gregs[G_RDI], second = gregs[G_RSI];
  switch (nr) {
    case NR_MMAP:
      if (first ? !map(gregs, &result) : !map_new(gregs, &result)) return 0;
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

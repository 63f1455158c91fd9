/* The log of changes that a new program's stub makes for calls that trap: lies in it, forged grants, races with readers.
 * The grant is a new program's, so each attack executes this program again and runs from its constructor. */
#include "hostile.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define HEAD(off) (*(volatile u64 *)(STUB_BASE + HEADER + (off)))
#define INNER "INNER_ATTACK"

static void note(u64 kind, u64 addr, u64 length, u64 prot, u64 offset) {
  volatile u64 *entry = &HEAD(CHANGE_ENTRIES + HEAD(CHANGES_COUNT) * CHANGE_SIZE);
  entry[0] = addr, entry[1] = length, entry[2] = prot | kind << CHANGE_KIND_SHIFT, entry[3] = offset;
  HEAD(CHANGES_COUNT)++;
}
static void *map_file(u64 length) {
  int fd = open("/proc/self/exe", O_RDONLY);
  void *at = mmap(0, length, PROT_READ, MAP_PRIVATE, fd, 0);
  if (at == MAP_FAILED || !HEAD(WINDOW_HIGH)) { dprintf(1, "no window to attack\n"); _exit(4); }
  return at;
}

/* --- what no stub can have written: each ends in SIGKILL --- */
static void too_many(void) { HEAD(CHANGES_COUNT) = 0xffffff; look_at_areas(); }
static void entry_on_stub(void) { note(CHANGE_PROTECTION, STUB_BASE, 4096, 1, 0); look_at_areas(); }
static void entry_kernel(void) { note(CHANGE_PROTECTION, 0xffffffff80000000, 4096, 1, 0); look_at_areas(); }
static void entry_wraps(void) { note(CHANGE_PROTECTION, 0x10000, -0x10000ul, 1, 0); look_at_areas(); }
static void entry_gives(void) { note(CHANGE_PROTECTION, (u64)map_file(8192), 4096, 3, 0); look_at_areas(); }
static void entry_odd(void) { note(77, 0x10000, 4096, 1, 0); look_at_areas(); }
static void entry_outside(void) { note(CHANGE_FILE, (u64)map_file(8192) + 4096, 8192, 1, 0); look_at_areas(); }
static void entry_offset(void) { note(CHANGE_FILE, (u64)map_file(8192), 4096, 1, -4096ul); look_at_areas(); }
static void entry_new(void) { note(CHANGE_NEW, 0x20000000, 4096, 3, 0); look_at_areas(); }
static void entry_removed(void) { note(CHANGE_REMOVED, (u64)map_file(8192), 8192, 0, 0); look_at_areas(); }
static void entry_new_file(void) { note(CHANGE_NEW_FILE, 0x20000000, 4096, 1, 0); look_at_areas(); }
static void entry_opened(void) { /* the file was not handed in */
  open("/proc/self/exe", O_RDONLY);
  note(CHANGE_NEW_FILE, HEAD(GAP_HIGH) - 4096, 4096, 1, 0);
  look_at_areas();
}
static void own_window(void) {
  char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, ANON, -1, 0);
  HEAD(WINDOW_LOW) = (u64)p, HEAD(WINDOW_PROT) = 7, HEAD(WINDOW_HIGH) = (u64)p + 8192;
  trap(SYS_mmap, (long)p, 4096, 7, ANON | MAP_FIXED, -1, 0);
  look_at_areas();
}
static void own_gap(void) {
  HEAD(GAP_LOW) = 0x10000, HEAD(GAP_LEAST) = 0, HEAD(GAP_HIGH) = 0x20000000;
  trap(SYS_mmap, 0, 4096, 3, ANON, -1, 0);
  look_at_areas();
}
static void own_removable(void) {
  char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, ANON, -1, 0);
  HEAD(REMOVABLE) = (u64)p, HEAD(REMOVABLE + 8) = (u64)p + 8192;
  trap(SYS_munmap, (long)p, 8192, 0, 0, 0, 0);
  look_at_areas();
}

/* --- lies that harm nobody, or only who tells them --- */
static void window_on_stub(void) { /* the stub looks where it is told to map */
  HEAD(WINDOW_LOW) = 0, HEAD(WINDOW_PROT) = 7, HEAD(WINDOW_HIGH) = -4096ul;
  HEAD(WINDOW_NUMBER) = ARENA_FD, HEAD(WINDOW_FD) = 9;
  u64 header = STUB_BASE + HEADER;
  if (trap(SYS_mmap, header, 4096, 3, MAP_PRIVATE | MAP_FIXED, 9, 0) == header) gained("the arena");
  if (trap(SYS_mmap, header, 4096, 7, ANON | MAP_FIXED, -1, 0) == header) gained("the stub's place");
  if (trap(SYS_mmap, STUB_BASE, 4096, 7, ANON | MAP_FIXED, -1, 0) == STUB_BASE) gained("the stub's place");
  if (!trap(SYS_mprotect, STUB_BASE, 4096, 0, 0, 0, 0)) gained("the stub's protection");
  HEAD(WINDOW_HIGH) = 0;
  look_at_areas();
}
static void arena_in_window(void) { /* a number that the filter would ask for goes the long way */
  char *p = map_file(8192);
  HEAD(WINDOW_NUMBER) = ARENA_FD;
  if (trap(SYS_mmap, (long)p, 4096, 1, MAP_PRIVATE | MAP_FIXED, HEAD(WINDOW_FD), 0) != (long)p) _exit(5);
  if (memcmp(p, "\177ELF", 4)) gained("another file");
  look_at_areas();
}
static void own_opened(void) { /* what the stub knows of a file that was opened, forged */
  char text[64] = {0};
  map_file(8192);
  int fd = open("/etc/passwd", O_RDONLY);
  for (int k = 0; k < 3; k++) {
    HEAD(OPENED_FD) = fd + 1, HEAD(OPENED_NUMBER) = k ? DONATED_FD + 700 : ARENA_FD, HEAD(OPENED_PROT) = 7;
    HEAD(OPENED_BASE) = k == 2 ? -4096ul : 0;
    char *p = (char *)trap(SYS_mmap, 0, 8192, 1, MAP_PRIVATE, fd, 0);
    if ((u64)p < -4096ul && memcmp(p, "root", 4)) gained("another file");
  }
  HEAD(OPENED_FD) = fd + 1, HEAD(OPENED_KNOWN) = -1ul, HEAD(OPENED_SINCE) = __builtin_ia32_rdtsc();
  HEAD(OPENED_POSITION) = 1ul << 62;
  trap(SYS_read, fd, (long)text, 64, 0, 0, 0);
  trap(SYS_pread64, fd, (long)text, 64, -4096, 0, 0);
  trap(SYS_read, fd, STUB_BASE, 64, 0, 0, 0);
  trap(SYS_fstat, fd, STUB_BASE, 0, 0, 0, 0);
  trap(SYS_prlimit64, 0, 3, 0, STUB_BASE, 0, 0);
  if (pread(fd, text, 4, 0) != 4 || memcmp(text, "root", 4)) gained("another file");
  HEAD(OPENED_CLOSED) = 1;
  look_at_areas();
}
static void own_ahead(void) { /* whatever is named as handed in is closed */
  for (u64 k = 0; k < AHEAD_MOST; k++) HEAD(AHEAD + 8 * k) = k & 1 ? 1ul << 63 : DONATED_FD + 5;
  HEAD(AHEAD_END) = 1;
  for (int k = 0; k < 10; k++) trap(SYS_setuid, getuid(), 0, 0, 0, 0, 0);
  if (!fork_apart()) _exit(0);
  wait(0);
}
static void closes_ahead(void) { /* its process is to be the next program's, with these files */
  for (u64 k = 0; k < AHEAD_MOST; k++)
    if (HEAD(AHEAD + 8 * k)) jump(IP_close_ip, 0, SYS_close, HEAD(AHEAD + 8 * k), 0, 0, 0, 0, 0);
  _exit(HEAD(AHEAD) ? 0 : 4);
}
static void removed_stub(void) {
  HEAD(REMOVABLE) = STUB_BASE, HEAD(REMOVABLE + 8) = STUB_BASE + 65536;
  if (!trap(SYS_munmap, STUB_BASE, 65536, 0, 0, 0, 0)) gained("the stub's place");
  HEAD(REMOVABLE + 8) = 0;
  look_at_areas();
}
static void never_done(void) { /* the areas say less than the host has */
  char *p = mmap(0, 65536, PROT_READ | PROT_WRITE, ANON, -1, 0);
  note(CHANGE_PROTECTION, (u64)p, 8192, 0, 0);
  look_at_areas();
  p[0] = 1;
  if (trap(SYS_mprotect, (long)p, 65536, 3, 0, 0, 0)) _exit(5);
  int fd = open("/proc/self/exe", O_RDONLY);
  if (read(fd, p, 65536) != 65536 || munmap(p, 65536)) _exit(6);
}
static void told_nonsense(void) {
  u64 slot = slot_address();
  SLOT32(slot, TOLD) = -1, SLOT64(slot, ROBUST_LIST) = 0xffffffff80000000, SLOT64(slot, CLEAR_TID) = STUB_BASE;
  SLOT32(slot, TRAPS_LEFT) = -1;
  HEAD(BREAK) = 12345;
  for (int k = 0; k < 1000; k++) trap(SYS_set_robust_list, k, 24, 0, 0, 0, 0), trap(SYS_brk, 0, 0, 0, 0, 0, 0);
  if (!fork_apart()) _exit(0);
  wait(0);
}
static void endless(void) { /* who does nothing but answer itself can be ended */
  if (!fork_apart()) {
    u64 slot = slot_address();
    for (;;) {
      SLOT32(slot, TRAPS_LEFT) = 9;
      SLOT32(slot, TOLD) |= TOLD_ALLOWED;
      trap(SYS_set_robust_list, 0, 24, 0, 0, 0, 0);
    }
  }
  pause_ms(50);
  kill(-1 * getpgrp(), SIGKILL);
}
static void race_reader(void) { /* another process looks while we scribble */
  map_file(1 << 16);
  fork_reader();
  u64 start = __builtin_ia32_rdtsc();
  for (unsigned seed = 1; __builtin_ia32_rdtsc() - start < 1000000000ul;) {
    seed = seed * 1103515245 + 12345;
    if (seed & 0x10000) HEAD(CHANGES_COUNT) = seed >> 20 & 7;
    else HEAD(CHANGE_ENTRIES + 8 * (seed >> 20 & 31)) = (u64)seed << 15;
  }
  wait(0);
}

static const struct attack inner[] = {
    {"too_many", too_many}, {"entry_on_stub", entry_on_stub}, {"entry_kernel", entry_kernel}, {"entry_wraps", entry_wraps},
    {"entry_gives", entry_gives}, {"entry_odd", entry_odd}, {"entry_outside", entry_outside}, {"entry_offset", entry_offset},
    {"entry_new", entry_new}, {"entry_removed", entry_removed}, {"entry_new_file", entry_new_file},
    {"entry_opened", entry_opened}, {"own_window", own_window}, {"own_gap", own_gap}, {"own_removable", own_removable},
    {"own_opened", own_opened}, {"own_ahead", own_ahead}, {"closes_ahead", closes_ahead}, {"window_on_stub", window_on_stub}, {"arena_in_window", arena_in_window},
    {"removed_stub", removed_stub}, {"never_done", never_done}, {"told_nonsense", told_nonsense}, {"endless", endless},
    {"race_reader", race_reader}, {0, 0}};

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv(INNER);
  if (!name) return;
  unsetenv(INNER);
  if (!HEAD(CHANGES_OPEN) || !SLOT32(slot_address(), TRAPS_LEFT)) { dprintf(1, "no grant to attack\n"); _exit(4); }
  for (const struct attack *a = inner; a->name; a++)
    if (!strcmp(a->name, name)) a->run();
  _exit(0);
}

static void again(const char *name) {
  setenv(INNER, name, 1);
  execl("/proc/self/exe", "changes", NULL);
  _exit(3);
}
#define AGAIN(name) static void again_##name(void) { again(#name); }
AGAIN(too_many) AGAIN(entry_on_stub) AGAIN(entry_kernel) AGAIN(entry_wraps) AGAIN(entry_gives) AGAIN(entry_odd)
AGAIN(entry_outside) AGAIN(entry_offset) AGAIN(entry_new) AGAIN(entry_removed) AGAIN(own_window) AGAIN(own_gap)
AGAIN(own_removable) AGAIN(window_on_stub) AGAIN(arena_in_window) AGAIN(removed_stub) AGAIN(never_done)
AGAIN(told_nonsense) AGAIN(endless) AGAIN(race_reader) AGAIN(entry_new_file) AGAIN(entry_opened) AGAIN(own_opened)
AGAIN(own_ahead)

static void robbed_process(void) { /* programs run in a process that lacks what it should have */
  for (int k = 0; k < 6; k++) {
    pid_t child = vfork();
    if (!child) {
      if (k & 1) execl("/bin/true", "true", NULL);
      else again("closes_ahead");
      _exit(3);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status) { dprintf(1, "turn %d: %x\n", k, status); _exit(5); }
  }
}

const struct attack attacks[] = {
    {"too_many", again_too_many}, {"entry_on_stub", again_entry_on_stub}, {"entry_kernel", again_entry_kernel},
    {"entry_wraps", again_entry_wraps}, {"entry_gives", again_entry_gives}, {"entry_odd", again_entry_odd},
    {"entry_outside", again_entry_outside}, {"entry_offset", again_entry_offset}, {"entry_new", again_entry_new},
    {"entry_removed", again_entry_removed}, {"own_window", again_own_window}, {"own_gap", again_own_gap},
    {"own_removable", again_own_removable}, {"window_on_stub", again_window_on_stub},
    {"arena_in_window", again_arena_in_window}, {"removed_stub", again_removed_stub}, {"never_done", again_never_done},
    {"told_nonsense", again_told_nonsense}, {"endless", again_endless}, {"race_reader", again_race_reader},
    {"entry_new_file", again_entry_new_file}, {"entry_opened", again_entry_opened}, {"own_opened", again_own_opened},
    {"own_ahead", again_own_ahead}, {"robbed_process", robbed_process}, {0, 0}};

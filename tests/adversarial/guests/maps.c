/* The log of local mappings: lies in it, grants of one's own making, races with readers and between threads. */
#include "hostile.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define LOG(off) (*(volatile u64 *)(STUB_BASE + HEADER + (off)))
#define ENTRY(n) LOG(MAP_ENTRIES + 8 * (n))

static char *__attribute__((noinline)) map(size_t n) { return mmap(0, n, PROT_READ | PROT_WRITE, ANON, -1, 0); }
static int __attribute__((noinline)) unmap(void *at, size_t n) { return munmap(at, n); }

static void heat(void) {
  for (int k = 0; k < 200; k++) unmap(map(8192), 8192);
  if (!LOG(MAP_LOW)) { dprintf(1, "no grant to attack\n"); _exit(4); }
}
static long count(void) { return LOG(MAP_HEAD) & 0xffff; }
static void set_count(u64 n) { LOG(MAP_HEAD) = ((LOG(MAP_HEAD) >> 16) + 1) << 16 | n; }

/* --- what no stub can have written: each ends in SIGKILL --- */
static void too_many(void) { heat(); set_count(0xffff); look_at_areas(); }
static void entry_of(u64 value) {
  heat();
  map(8192);
  ENTRY(count()) = value;
  LOG(MAP_HEAD) += 1 << 16;
  look_at_areas();
}
static void entry_low(void) { entry_of(0x400000 | 3); }
static void entry_high(void) { entry_of(0x7ffffffff000 | 3); }
static void entry_kernel(void) { entry_of(0xffffffff80000000 | 3); }
static void entry_on_stub(void) { entry_of(STUB_BASE | 3); }
static void entry_executable(void) { heat(); entry_of((u64)map(8192) - 8192 | 7); }
static void entry_up(void) {
  heat();
  u64 a = (u64)map(8192), b = (u64)map(8192);
  (void)b;
  ENTRY(count()) = a + 4096 | 3;
  LOG(MAP_HEAD) += 1 << 16;
  look_at_areas();
}
static void own_grant(void) { /* the stub maps where it is told to; the filter knows better */
  heat();
  ENTRY(count()) = STUB_BASE + SLOTS + SLOT_SIZE;
  LOG(MAP_LOW) = 4096;
  map(SLOT_SIZE);
}
static void own_grant_over_text(void) {
  heat();
  ENTRY(count()) = STUB_BASE + 4096;
  LOG(MAP_LOW) = 4096;
  map(4096);
}
static void unmap_stub(void) { /* an entry that says it is the stub */
  heat();
  set_count(1);
  ENTRY(0) = STUB_BASE + 4096;
  ENTRY(1) = STUB_BASE | 3;
  unmap((void *)STUB_BASE, 4096);
}

/* So much is said to be kept below the last mapping: what is there is the guest's own, or may not be changed. */
static void kept_of(u64 most) {
  heat();
  for (u64 kept = 4096; kept && kept <= most; kept *= 16) {
    char *p = map(3 * 4096), *q = map(16 * 4096);
    LOG(MAP_KEPT) = kept;
    char *r = map(2 * 4096);
    if (r[0] || r[8191]) gained("old contents");
    r[0] = 1;
    unmap(r, 2 * 4096);
    LOG(MAP_KEPT) = kept;
    unmap(q, 16 * 4096);
    LOG(MAP_KEPT) = 0;
    unmap(p, 3 * 4096);
  }
}
static void kept_lies(void) { kept_of(0x10000); }
static void kept_beyond(void) { /* the stub would be unmapped with it */
  heat();
  char *p = map(65536);
  LOG(MAP_KEPT) = 0x10000000000;
  unmap(p, 65536);
}

static int __attribute__((noinline)) give(void *at, size_t n) { return madvise(at, n, MADV_DONTNEED); }
static void own_advice(void) { /* give back the stub's memory, or another's */
  char *p = map(8192);
  for (int k = 0; k < 200; k++) give(p, 8192);
  if (!LOG(ADVISE_HIGH)) { dprintf(1, "no window to attack\n"); _exit(4); }
  LOG(ADVISE_LOW) = 0;
  LOG(ADVISE_HIGH) = ~0ul;
  give((void *)(STUB_BASE + HEADER), REGION_SIZE);
}

/* --- lies that could be true: their teller's own affair --- */
static void never_mapped(void) {
  heat();
  u64 top = ENTRY(count()) & -4096;
  for (int k = 1; k < 50; k++) ENTRY(count() + 1) = top - k * 4096 | 3, LOG(MAP_HEAD) += 0x10001;
  look_at_areas();
  if (readable((void *)(top - 4096))) gained("memory by a lie"); /* nothing there, and nothing breaks */
  char *p = map(1 << 20);
  if (p == MAP_FAILED) _exit(5);
  memset(p, 1, 1 << 20);
  if (!fork_apart()) { look_at_areas(); _exit(0); }
  wait(0);
  unmap((void *)(top - 49 * 4096), 49 * 4096);
  look_at_areas();
  heat();
}
static void forgotten(void) { /* mapped, and taken out of the log */
  heat();
  char *p = map(8192);
  p[0] = 1;
  set_count(0);
  look_at_areas();
  for (int k = 0; k < 300; k++) {
    char *q = map(8192);
    q[1] = 1;
    if (k % 3) unmap(q, 8192);
    if (k % 50 == 0) look_at_areas();
  }
}
static void beyond_limits(void) { /* what a forged grant gives is not more than jumping into the stub did */
  heat();
  LOG(MAP_LOW) = 4096;
  LOG(MAP_LEAST) = 0;
  for (int k = 0; k < 400; k++) map(1 << 16);
}

/* --- races --- */
static volatile int stop;
static void *scribble(void *a) {
  unsigned seed = (unsigned)(u64)a;
  while (!stop) {
    seed = seed * 1103515245 + 12345;
    u64 was = LOG(MAP_HEAD);
    switch (seed >> 16 & 7) {
      case 0: LOG(MAP_HEAD) = seed; break;
      case 1: LOG(MAP_LOW) = seed & 1 ? 4096 : 0; break;
      case 2: ENTRY(seed >> 8 & 255) = (u64)seed << 15 | 3; break;
      case 3: ENTRY(was & 0xff) += 4096; break;
      default: LOG(MAP_HEAD) = was;
    }
  }
  return 0;
}
static void race_threads(void) {
  heat();
  pthread_t t;
  pthread_create(&t, 0, scribble, (void *)7);
  for (int k = 0; k < 3000; k++) {
    char *p = map(4096 * (1 + k % 5));
    if (p != MAP_FAILED && k % 4) unmap(p, 4096 * (1 + k % 5));
    if (k % 500 == 0) look_at_areas();
  }
  stop = 1;
  pthread_join(t, 0);
}
static void race_reader(void) { /* another process looks while we scribble */
  heat();
  fork_reader();
  u64 start = __builtin_ia32_rdtsc();
  for (unsigned seed = 1; __builtin_ia32_rdtsc() - start < 1000000000ul;) {
    seed = seed * 1103515245 + 12345;
    if (seed & 0x10000) LOG(MAP_HEAD) = (u64)seed << 16 | (seed >> 20 & 7);
    else ENTRY(seed >> 20 & 7) = ((u64)seed << 15 & -4096) | 3;
  }
  wait(0);
}
static void honest_reader(void) { /* another process looks while we map and unmap as fast as we can */
  heat();
  pid_t self = getpid(), child = fork_apart();
  if (!child) {
    char name[64], text[4096];
    snprintf(name, sizeof name, "/proc/%d/maps", self);
    for (int k = 0; k < 300; k++) {
      int fd = open(name, O_RDONLY);
      while (read(fd, text, sizeof text) > 0);
      close(fd);
    }
    _exit(0);
  }
  heat();
  for (int status; waitpid(child, &status, WNOHANG) == 0;)
    for (int k = 0; k < 50; k++) {
      char *p = map(8192), *q = map(4096);
      p[0] = q[0] = 1;
      if (q + 4096 != p) gained("a place out of order");
      unmap(q, 4096);
      unmap(p, 8192);
    }
}

const struct attack attacks[] = {
    {"too_many", too_many}, {"entry_low", entry_low}, {"entry_high", entry_high}, {"entry_kernel", entry_kernel},
    {"entry_on_stub", entry_on_stub}, {"entry_executable", entry_executable}, {"entry_up", entry_up},
    {"own_grant", own_grant}, {"own_grant_over_text", own_grant_over_text}, {"unmap_stub", unmap_stub}, {"own_advice", own_advice},
    {"kept_lies", kept_lies}, {"kept_beyond", kept_beyond},
    {"never_mapped", never_mapped}, {"forgotten", forgotten}, {"beyond_limits", beyond_limits},
    {"race_threads", race_threads}, {"race_reader", race_reader}, {"honest_reader", honest_reader}, {0, 0}};

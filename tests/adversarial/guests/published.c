/* What the stub answers itself: lies about the rows, races against revoking, and what is left in memory afterwards. */
#include "hostile.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#define SIZE 65536
static char block[SIZE];
static __thread char buffer[1 << 20];

static ssize_t __attribute__((noinline)) get(int fd, void *at, size_t n, off_t offset) { return pread(fd, at, n, offset); }
static ssize_t __attribute__((noinline)) put(int fd, const void *at, size_t n, off_t offset) { return pwrite(fd, at, n, offset); }
static ssize_t __attribute__((noinline)) out(int fd, const void *at, size_t n) { return write(fd, at, n); }
static ssize_t __attribute__((noinline)) in(int fd, void *at, size_t n) { return read(fd, at, n); }

static int file(const char *name, char fill, int flags) {
  memset(block, fill, SIZE);
  int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || write(fd, block, SIZE) != SIZE) _exit(3);
  close(fd);
  return open(name, flags);
}
static void heat(int fd) {
  for (int k = 0; k < 300; k++) {
    put(fd, block, 4096, 4096);
    get(fd, buffer, 4096, 8192);
  }
}
static u64 row(int fd) { return ((u64 *)(STUB_BASE + HEADER + FILE_ROWS))[fd]; }
static char *window(int fd) {
  u64 r = row(fd);
  if (!(r & FILE_READ)) return 0;
  return (char *)FILE_WINDOWS + ((r >> FILE_UNIT_SHIFT & FILE_UNIT_MASK) << FILE_UNIT);
}
static char *hot(int fd) {
  heat(fd);
  if (!window(fd)) { dprintf(1, "no window to attack\n"); _exit(4); }
  return window(fd);
}

/* --- rows of one's own making --- */
static u64 rows[FILE_ROW_COUNT];
static void own_rows(void) {
  int fd = file("rows", 'a', O_RDWR);
  hot(fd);
  SLOT64(slot_address(), FILE_TABLE) = (u64)rows;
  for (u64 unit = 0; unit <= FILE_UNIT_MASK; unit += 997) {
    rows[200] = FILE_READ | FILE_WRITE | FILE_NOTE_READS | unit << FILE_UNIT_SHIFT | 0xfffffffffL << FILE_SIZE_SHIFT;
    get(200, buffer, 64, 0);
    put(200, buffer, 64, 0xfffffff);
    get(200, buffer, 1 << 20, 0xffffff000);
  }
  u64 wild[] = {0, 1, 8, ~0ul, 1ul << 47, STUB_BASE, STUB_BASE + HEADER, slot_address(), (u64)rows + 4, 0x7ffffffff000 - 8};
  for (unsigned k = 0; k < sizeof wild / sizeof *wild; k++) {
    SLOT64(slot_address(), FILE_TABLE) = wild[k];
    for (int n = 0; n < FILE_ROW_COUNT; n++) get(n, buffer, 100, 0), put(n, buffer, 100, 0), in(250 + n % 200, buffer, 100);
  }
}
static void wild_buffers(void) { /* the stub copies for the guest: nowhere that the guest could not write itself */
  int fd = file("wild", 'a', O_RDWR);
  hot(fd);
  u64 at[] = {0, STUB_BASE, STUB_BASE + GLOBAL, ~0ul << 47, 1ul << 47, ~0ul - 100};
  u64 global = *(volatile u64 *)(STUB_BASE + GLOBAL + SPIN), own = row(fd);
  for (unsigned k = 0; k < sizeof at / sizeof *at; k++) {
    if (get(fd, (void *)at[k], 4096, 0) >= 0) gained("a read into what is read-only");
    if (in(open("/dev/zero", O_RDONLY), (void *)at[k], 4096) >= 0) gained("zeros in what is read-only");
  }
  if (row(fd) != own) gained("a row");
  u64 slot = slot_address(); /* its own slot, while it is in use: what comes of it is its own affair */
  if (!fork_apart()) get(fd, (void *)slot, 4096, 0), get(fd, (void *)slot, SLOT_SIZE, 0), _exit(0);
  wait(0);
}
static void forged_rows(void) { /* the header is the guest's to write: a row that says too much gives nothing */
  int fd = file("forged", 'a', O_RDONLY);
  hot(fd);
  volatile u64 *rows = (u64 *)(STUB_BASE + HEADER + FILE_ROWS);
  if (!(rows[fd] & FILE_READ)) _exit(6);
  rows[fd] |= FILE_WRITE;
  if (put(fd, "x", 1, 0) >= 0) gained("a write to what is open for reading");
  char c = 0;
  if (trap(SYS_pread64, fd, (long)&c, 1, 0, 0, 0) != 1 || c != 'a') gained("other contents");
}
static void lies_about_times(void) {
  int fd = file("times", 'a', O_RDWR);
  struct timespec begin, now, past[2] = {{1000, 0}, {1000, 0}};
  clock_gettime(CLOCK_REALTIME_COARSE, &begin);
  hot(fd);
  volatile u64 *notes = (u64 *)FILE_NOTES + 2 * fd;
  u64 lies[] = {0, 1, ~0ul, 1ul << 63, __builtin_ia32_rdtsc() * 2};
  for (int k = 0; k < 25; k++) {
    put(fd, "x", 1, 0);
    notes[0] = lies[k % 5], notes[1] = lies[k / 5];
    long s[32];
    if (trap(SYS_fstat, fd, (long)s, 0, 0, 0, 0)) _exit(5);
    clock_gettime(CLOCK_REALTIME, &now);
    for (int n = 9; n <= 13; n += 2) /* st_atim, st_mtim, st_ctim */
      if (s[n] < begin.tv_sec - (n == 9 ? 100 : 1) || s[n] > now.tv_sec) gained("another time");
  }
  fd = file("reading", 'a', O_RDONLY); /* and nothing at all of a file that it does not write */
  futimens(fd, past);
  hot(fd);
  ((volatile u64 *)FILE_NOTES)[2 * fd] = __builtin_ia32_rdtsc();
  long s[32];
  trap(SYS_fstat, fd, (long)s, 0, 0, 0, 0);
  if (s[11] != 1000) gained("the time of a file that is open for reading");
}

/* --- what is left --- */
static void after_close(void) {
  int fd = file("close", 'a', O_RDWR);
  char *at = hot(fd);
  if (!readable(at)) _exit(6);
  close(fd);
  if (readable(at)) gained("a file that was closed");
  fd = file("close", 'a', O_RDWR);
  at = hot(fd);
  dup2(0, fd);
  if (readable(at)) gained("a file that was replaced");
  fd = file("close", 'a', O_RDWR);
  at = hot(fd);
  close_range(fd, fd, 0);
  if (readable(at)) gained("a file that was closed by range");
}
static void in_the_child(void) {
  int fd = file("child", 'a', O_RDWR), status;
  char *at = hot(fd);
  if (!fork_apart()) {
    if (readable(at)) gained("the parent's window");
    if (row(fd)) gained("the parent's row");
    if (readable((void *)FILE_NOTES)) gained("the parent's notes");
    _exit(0);
  }
  wait(&status);
  if (status) _exit(7);
}
static void only_what_was_opened(void) {
  int fd = file("reading", 'a', O_RDONLY);
  char *at = hot(fd);
  if (writable(at)) gained("writing to what is open for reading");
  fd = open("/etc/passwd", O_RDONLY);
  at = hot(fd);
  if (writable(at)) gained("writing to a file of the host");
  trap(SYS_mprotect, (long)at, 4096, 3, 0, 0, 0);
  if (writable(at)) gained("write permission");
  fd = file("writing", 's', O_WRONLY);
  heat(fd);
  if (window(fd)) gained("reading what is open for writing");
  fd = memfd_create("sealed", MFD_ALLOW_SEALING);
  write(fd, block, SIZE);
  at = hot(fd);
  if (writable(at)) gained("a mapping that outlives a seal");
}
static void hidden(void) {
  int fd = file("hidden", 'a', O_RDWR);
  char *at = hot(fd);
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps))
    if (strtoul(line, 0, 16) >= FILE_WINDOWS && strtoul(line, 0, 16) < FILE_WINDOWS_END) gained("sight of a window");
  u64 places[] = {(u64)at, FILE_WINDOWS, FILE_WINDOWS_END - 4096};
  for (int k = 0; k < 3; k++) {
    u64 a = places[k];
    if (trap(SYS_munmap, a, 4096, 0, 0, 0, 0) >= 0) gained("munmap");
    if (trap(SYS_mprotect, a, 4096, 7, 0, 0, 0) >= 0) gained("mprotect");
    if (trap(SYS_mmap, a, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) >= 0) gained("mmap");
    if (trap(SYS_mremap, a, 4096, 4096, 3, 0x10000000000, 0) >= 0) gained("mremap");
    if (trap(SYS_madvise, a, 4096, 11, 0, 0, 0) >= 0) gained("madvise");
  }
  jump(IP_op_ip, 0, SYS_munmap, (long)at, SIZE, 0, 0, 0, 0); /* by force: its own loss, not even that */
  if (get(fd, buffer, 4096, 0) != 4096 || buffer[0] != 'a') _exit(8);
  if (put(fd, "b", 1, 0) != 1 || get(fd, buffer, 1, 0) != 1 || buffer[0] != 'b') _exit(9);
}

/* --- races: a descriptor changes its meaning under a thread that reads it --- */
static volatile long stage; /* odd: in between; else (stage / 2) % 2 tells which file it is */
static volatile int raced, over;
static void *reader(void *a) {
  while (!over) {
    long before = stage;
    ssize_t n = get(raced, buffer, 4096, 4096);
    long after = stage;
    if (n < 0) {
      if (before == after && !(before & 1)) gained("nothing where a file is open");
      continue;
    }
    for (int k = 1; k < 4096; k++)
      if (buffer[k] != buffer[0]) gained("a mixture");
    if (buffer[0] != 'A' && buffer[0] != 'B') gained("neither file");
    if (before == after && !(before & 1) && buffer[0] != "AB"[before / 2 % 2]) gained("the other file");
  }
  return a;
}
/* The C library has other call sites for a program with threads: they are patched while no other one runs. */
static void *heat_reading(void *a) { for (int k = 0; k < 300; k++) get(raced, buffer, 4096, 4096); return a; }
static void *heat_sink(void *a) { for (int k = 0; k < 300; k++) out(raced, block, 1); return a; }
static void alone(void *(*run)(void *)) {
  pthread_t t;
  pthread_create(&t, 0, run, 0);
  pthread_join(t, 0);
}
static void race(int by_close) {
  int a = file("A", 'A', O_RDONLY), b = file("B", 'B', O_RDONLY);
  pthread_t t[2];
  raced = dup(a);
  alone(heat_reading);
  if (!window(raced)) _exit(4);
  for (int k = 0; k < 2; k++) pthread_create(&t[k], 0, reader, 0);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    int next = (stage / 2 + 1) % 2;
    burn(3000000 + stage % 7 * 100000);
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
    if (by_close) {
      close(raced);
      if (open(next ? "B" : "A", O_RDONLY) != raced) _exit(10);
    } else {
      dup2(next ? b : a, raced);
    }
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < 4);
  over = 1;
  for (int k = 0; k < 2; k++) pthread_join(t[k], 0);
}
static void race_dup2(void) { race(0); }
static void race_close(void) { race(1); }
static void *sink(void *a) {
  while (!over) {
    long before = stage;
    ssize_t n = out(raced, block, 5);
    long after = stage;
    if (before == after && !(before & 1) && n != (before / 2 % 2 ? -1 : 5)) gained("the other file's answer");
  }
  return a;
}
static void race_sink(void) { /* /dev/null and a file that is open for reading */
  pthread_t t;
  int a = open("/dev/null", O_RDWR), b = open("/dev/null", O_RDONLY);
  raced = dup(a);
  alone(heat_sink);
  if (!(row(raced) & FILE_SINK)) _exit(4);
  pthread_create(&t, 0, sink, 0);
  for (int k = 0; k < 3000; k++) {
    burn(300000);
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
    dup2((stage / 2 + 1) % 2 ? b : a, raced);
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
  }
  over = 1;
  pthread_join(t, 0);
}

/* --- the standing answer --- */
static struct epoll_event events[64];
static int __attribute__((noinline)) look(int ep, void *at, int limit) { return epoll_wait(ep, at, limit, 0); }
static volatile u64 *cell(int word) { return (u64 *)(STUB_BASE + HEADER + ANSWER) + word; }
static int watching(int *event) {
  int ep = epoll_create1(0);
  epoll_ctl(ep, EPOLL_CTL_ADD, *event = eventfd(0, 0), &(struct epoll_event){.events = EPOLLIN, .data.u64 = ~0ul});
  return ep;
}
static void forged_answer(void) { /* the header is the guest's to write: it can lie to itself, and only with what it has */
  int event, ep = watching(&event);
  for (int k = 0; k < 300; k++) look(ep, events, 1);
  if ((u32)*cell(0) != (ANSWER_EPOLL | ep)) { dprintf(1, "no answer to attack\n"); _exit(4); }
  char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(page + 4096, 4096);
  u64 words[] = {0, 3, 120, 1u << 31, ~0ul};
  u64 at[] = {0, STUB_BASE, STUB_BASE + GLOBAL, ~0ul << 47, 1ul << 47, (u64)page};
  for (unsigned k = 0; k < 5 * 6; k++) {
    *cell(1) = k;
    *cell(2) = words[k % 5];
    *cell(0) = 77ul << 32 | ANSWER_EPOLL | ep;
    look(ep, (void *)at[k / 5], 64);
  }
  *cell(1) = 1, *cell(2) = 3;
  *cell(0) = 77ul << 32 | ANSWER_EPOLL | ep;
  if (trap(SYS_epoll_wait, ep, (long)events, 64, 0, 0, 0)) gained("an event that is none");
  if (!fork_apart()) _exit(*cell(0) != 0); /* nor does a child believe it */
  int status;
  wait(&status);
  if (status) gained("the parent's answer");
}
static void *looker(void *a) {
  struct epoll_event mine[64];
  while (!over) {
    memset(mine, 0, sizeof mine);
    long before = stage;
    int n = look(raced, mine, 64);
    long after = stage;
    if (before == after && !(before & 1) && n != (before / 2 % 2 ? 5 : 40)) gained("an answer of before");
    for (int k = 1; k < n; k++)
      if (mine[k].data.u64 >> 8 != mine[0].data.u64 >> 8 || mine[k].events != EPOLLIN) gained("a mixture");
  }
  return a;
}
static void *heat_looking(void *a) { for (int k = 0; k < 300; k++) look(raced, events, 64); return a; }
static void race_answers(void) { /* two epolls with different events take turns at one descriptor */
  int ep[2] = {epoll_create1(0), epoll_create1(0)};
  for (long k = 0; k < 45; k++) {
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = (k < 40 ? 0x1111111111111100 : 0x2222222222222200) + k};
    epoll_ctl(ep[k >= 40], EPOLL_CTL_ADD, eventfd(1, 0), &e);
  }
  pthread_t t[2];
  raced = dup(ep[0]);
  alone(heat_looking);
  for (int k = 0; k < 2; k++) pthread_create(&t[k], 0, looker, 0);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    burn(3000000 + stage % 7 * 100000);
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
    dup2(ep[(stage + 1) / 2 % 2], raced);
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < 4);
  over = 1;
  for (int k = 0; k < 2; k++) pthread_join(t[k], 0);
}

/* --- the entries, with registers of one's own choice --- */
static void entries(void) {
  int fd = file("entries", 'a', O_RDWR);
  hot(fd);
  u64 ips[] = {IP_any_entry, IP_local_read, IP_local_write, IP_local_pread, IP_local_pwrite,
               IP_answer_epoll_wait, IP_answer_epoll_pwait, IP_answer_fstat, IP_answer_fstatat, IP_local_mmap, IP_local_munmap, IP_local_madvise, IP_local_mask};
  u64 values[] = {0, 1, ~0ul, 1ul << 63, 1ul << 47, STUB_BASE, STUB_BASE + HEADER, slot_address(), FILE_WINDOWS, fd};
  for (unsigned k = 0; k < sizeof ips / sizeof *ips; k++)
    for (unsigned n = 0; n < 1000; n += 3) {
      u64 away, save;
      __asm__ volatile("mov %%rsp, %1; lea 1f(%%rip), %0; mov %0, %%rcx; jmp *%2; 1: mov %1, %%rsp; cld"
                       : "=&r"(away), "=&b"(save)
                       : "r"(ips[k]), "a"((u64)(n % 20)), "D"(values[n % 10]), "S"(values[n / 10 % 10]), "d"(values[n / 100]),
                         "r"(away)
                       : "rcx", "r11", "memory");
    }
}

#define A(n) {#n, n}
const struct attack attacks[] = {A(own_rows), A(wild_buffers), A(forged_rows), A(lies_about_times), A(after_close),
                                 A(in_the_child), A(only_what_was_opened), A(hidden), A(race_dup2), A(race_close),
                                 A(race_sink), A(forged_answer), A(race_answers), A(entries), {0, 0}};

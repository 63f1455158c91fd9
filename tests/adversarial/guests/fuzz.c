/* Every system call of the table with arguments at random: fuzz SECONDS SEED [FIRST COUNT].
 *
 * Batches of calls, each in a process of its own that its number names (/proc/self/comm), some of them at once, with a
 * second thread in some and memory that all share. What the calls give does not matter, only that the kernel survives
 * them: the test looks at its log. Ends with "batches N". fuzz_table.h has the calls: `calls`, and what numbers are
 * worth trying with which: `pools`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
struct pool { int count; const u64 *values; };
struct call { int nr; const char *name, *kinds; int pool; };
#include "fuzz_table.h"

#define CALLS_PER_BATCH 1000
#define AT_ONCE 3
#define PLACE "/tmp/fuzz"
#define PAGE 4096UL
#define PRIVATE ((char *)0x100000000000) /* 16 pages, then a hole, then 4 read-only ones, 4 shared ones */
#define HOLE (PRIVATE + 16 * PAGE)
#define READ_ONLY (HOLE + PAGE)
#define SHARED (READ_ONLY + 4 * PAGE)

static __thread u64 state;
static u64 draw(void) { /* xorshift64* */
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return state * 2685821657736338717UL;
}
static u64 below(u64 n) { return (draw() >> 11) % n; }
static int once_in(u64 n) { return below(n) == 0; }
#define ANY_OF(array) ((array)[below(sizeof(array) / sizeof *(array))])

static const u64 edges[] = {
    0, 1, 2, 3, 7, 8, 63, 64, 255, 256, 1023, 1024, 4095, 4096, 4097, 65535, 65536, 999999999, 1000000000,
    0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7ffffffff000, 0x7fffffffefff, 0x800000000000,
    0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffff000, 0xfffffffffffffff8, 0xffffffffffffffff,
    0xfffffffffffffffe, 0xffffffff80000000, 0x7fffffff7fffffff, 0x00000001ffffffff};

static const char *const paths[] = {
    PLACE "/a", PLACE "/b", PLACE "/dir", PLACE "/dir/c", PLACE "/link", PLACE "/loop", PLACE "/fifo", PLACE "/socket",
    PLACE "/\xff\xfe\x80", PLACE "/a/b", PLACE "/none", "", ".", "..", "/", "a", "dir/../b", "////" PLACE "//a/",
    "/proc/self/status", "/proc/self/fd", "/proc/self/fd/3", "/proc/self/fd/12", "/proc/self/exe", "/proc/self/cwd",
    "/proc/self/mem", "/proc/self/maps", "/proc/self/comm", "/proc/self/oom_score_adj", "/proc/self/root/tmp",
    "/proc/self/ns/net", "/proc/self/task", "/proc/thread-self/stat", "/proc/net/tcp", "/proc/net/unix", "/proc/mounts",
    "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/fs/file-max", "/proc/99999999",
    "/proc/self/fd/99999999999999999999", "/proc/self/limits", "/proc/self/timerslack_ns", "/proc/self/uid_map",
    "/proc/self/environ", "/proc/self/pagemap", "/proc/self/clear_refs", "/proc/self/fdinfo/5", "/proc/sys/vm",
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/pts/0", "/dev/shm/x",
    "/dev/fd/4", "/dev/console", "/sys/class/net", "/sys/kernel", "/etc/passwd", "/bin/true", "trusted.overlay", "user.x",
    "system.posix_acl_access", "security.capability", "tmpfs", "proc", "size=-1,mode=99999999999", "eth0", "lo"};

static int last_fd = 60;
static int show; /* calls that took as many microseconds ($FUZZ_SHOW) are told */

static u64 number(int pool) {
  if (pool >= 0 && below(8)) {
    u64 value = pools[pool].values[below(pools[pool].count)];
    return once_in(5) ? value | pools[pool].values[below(pools[pool].count)] : value;
  }
  switch (below(9)) {
    case 0: return ANY_OF(edges);
    case 1: return draw() >> below(64);
    case 2: return 1UL << below(64);
    case 3: return (u64) - (int64_t)below(200);
    default: return below(once_in(2) ? 70 : 4);
  }
}

static u64 some_fd(void) {
  if (once_in(25)) return number(-1);
  if (once_in(25)) return AT_FDCWD;
  return 3 + below(last_fd);
}

static char *room(u64 size) { /* somewhere to write, sometimes just before the hole, sometimes shared */
  if (once_in(12)) return HOLE - size - below(2) * 4;
  if (once_in(12)) return SHARED + below(4 * PAGE - size);
  return PRIVATE + below(15 * PAGE - size) / 8 * 8;
}

static u64 pointer(int pool);

static char *path(void) {
  char *at = room(6000);
  if (once_in(60)) {
    memset(at, 'x', 5000), at[5000] = 0;
    for (int k = 100; k < 5000; k += 100) at[k] = '/';
  } else if (once_in(40)) {
    for (int k = 0; k < 20; k++) at[k] = draw();
    at[20] = 0;
  } else {
    strcpy(at, ANY_OF(paths));
  }
  return at;
}

static int address(char *at) { /* a struct sockaddr; its length */
  static const short families[] = {AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};
  memset(at, 0, 128);
  *(short *)at = once_in(20) ? (short)draw() : ANY_OF(families);
  switch (*(short *)at) {
    case AF_UNIX:
      if (once_in(3)) { at[3] = below(4); return 2 + below(6); }
      strcpy(at + 2, once_in(4) ? "/none" : PLACE "/socket");
      return below(3) ? 3 + strlen(at + 2) : below(120);
    case AF_INET:
      *(uint16_t *)(at + 2) = htons(7000 + below(8));
      *(uint32_t *)(at + 4) = htonl(once_in(3) ? draw() : INADDR_LOOPBACK);
      return once_in(8) ? below(128) : 16;
    case AF_INET6:
      *(uint16_t *)(at + 2) = htons(7000 + below(8));
      if (once_in(3)) for (int k = 8; k < 24; k++) at[k] = draw();
      else at[23] = 1;
      if (once_in(4)) *(uint32_t *)(at + 24) = draw();
      return once_in(8) ? below(128) : 28;
    default:
      for (int k = 2; k < 28; k++) at[k] = once_in(2) ? draw() : below(4);
      return once_in(8) ? below(128) : *(short *)at == AF_NETLINK ? 12 : 20;
  }
}

static int netlink(char *at) { /* a request, perhaps broken */
  memset(at, 0, 512);
  int length = 16, types[] = {16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 30, 32, 34, 36, 38, 64, 66, 74, 78, 80, 88};
  *(uint16_t *)(at + 4) = once_in(8) ? draw() : ANY_OF(types);
  *(uint16_t *)(at + 6) = once_in(4) ? draw() : 1 | (once_in(2) ? 0x300 : 0) | (once_in(2) ? 4 : 0);
  for (int k = 0; k < 4 + (int)below(20); k++, length++) at[length] = once_in(2) ? 0 : below(12);
  at[16] = once_in(2) ? AF_INET : once_in(2) ? AF_INET6 : 0;
  for (int n = below(5); n--;) {
    length = (length + 3) & ~3;
    int size = below(3) ? 4 * below(5) : below(40);
    *(uint16_t *)(at + length) = once_in(8) ? draw() : 4 + size;
    *(uint16_t *)(at + length + 2) = below(30);
    for (int k = 0; k < size; k++) at[length + 4 + k] = once_in(2) ? draw() : below(3);
    length += 4 + size;
  }
  *(uint32_t *)at = once_in(8) ? draw() : length;
  return length;
}

static int vectors(u64 *at) {
  int count = below(5);
  for (int k = 0; k < count; k++) {
    at[2 * k] = once_in(8) ? pointer(-1) : (u64)room(4096);
    at[2 * k + 1] = once_in(8) ? number(-1) : below(4096);
  }
  if (once_in(3)) { at[0] = (u64)room(1024), at[1] = netlink((char *)at[0]), count = 1; }
  return count;
}

static void message(u64 *at) { /* a struct msghdr */
  at[0] = once_in(2) ? 0 : (u64)room(256);
  at[1] = at[0] ? address((char *)at[0]) : 0;
  at[2] = (u64)room(256);
  at[3] = vectors((u64 *)at[2]);
  at[4] = at[5] = 0;
  if (once_in(2)) {
    char *control = (char *)(at[4] = (u64)room(512));
    int length = 0;
    for (int n = 1 + below(3); n--;) {
      int size = below(3) ? 4 * below(6) : below(64), levels[] = {0, 1, 6, 17, 41, 270};
      *(u64 *)(control + length) = once_in(8) ? number(-1) : 16 + size;
      *(uint32_t *)(control + length + 8) = ANY_OF(levels);
      *(uint32_t *)(control + length + 12) = below(60);
      for (int k = 0; k < size; k += 4) *(uint32_t *)(control + length + 16 + k) = once_in(2) ? some_fd() : number(-1);
      length += (16 + size + 7) & ~7;
    }
    at[5] = once_in(8) ? number(-1) : length;
  }
  at[6] = number(-1);
  if (once_in(10)) at[below(6)] = number(-1);
}

static void fill(u64 *at, int pool) { /* 256 bytes of something */
  switch (below(12)) {
    case 0: address((char *)at); return;
    case 1: netlink((char *)at); return;
    case 2: vectors(at); return;
    case 3: message(at); return;
    case 4: memset(at, 0, 256); at[below(8)] = number(pool); return;
    case 5: memset(at, below(256), 256); return;
    case 6: /* times */
      for (int k = 0; k < 32; k++) at[k] = once_in(4) ? number(-1) : k & 1 ? below(1000000) : below(2);
      return;
    case 7: /* ints */
      for (int k = 0; k < 64; k++) ((uint32_t *)at)[k] = once_in(2) ? number(pool) : some_fd();
      return;
    case 8: strcpy((char *)at, ANY_OF(paths)); return;
    case 9: /* pointers and lengths */
      for (int k = 0; k < 32; k++) at[k] = once_in(2) ? (u64)room(64) : below(64);
      return;
    case 10: snprintf((char *)at, 200, "%lld %llu\n", (long long)number(-1), (unsigned long long)number(-1)); return;
    default:
      for (int k = 0; k < 32; k++) at[k] = number(pool);
  }
}

static u64 pointer(int pool) {
  if (once_in(12)) return 0;
  if (once_in(20)) return ANY_OF(edges);
  if (once_in(25)) return (u64)READ_ONLY + below(4 * PAGE);
  if (once_in(25)) return (u64)HOLE - below(64);
  u64 *at = (u64 *)room(512);
  if (below(4)) fill(at, pool);
  return (u64)at + (once_in(20) ? below(8) : 0);
}

static u64 process(void) {
  switch (below(5)) {
    case 0: return 0;
    case 1: return syscall(SYS_gettid);
    case 2: return once_in(20) ? (u64)-1 : 2 + draw() % 100;
    default: return getpid();
  }
}

static u64 argument(const char *kind, int length, const struct call *call) {
  int pool = call->pool;
#define IS(word) (length == sizeof word - 1 && !memcmp(kind, word, length))
  if (once_in(100)) return number(pool);
  if (IS("fd") || IS("dirfd")) return some_fd();
  if (IS("path")) return once_in(20) ? pointer(pool) : (u64)path();
  if (IS("pid")) return process();
  if (IS("signal")) return once_in(4) ? number(pool) : below(66);
  if (IS("size") || IS("count")) return once_in(4) ? number(-1) : below(3) ? below(300) : 8;
  if (IS("mode")) return once_in(4) ? number(-1) : draw() & 07777;
  if (IS("offset")) return once_in(2) ? number(-1) : below(9000);
  if (IS("flags") && once_in(2)) return 0;
  if (IS("int") || IS("flags") || IS("prot") || IS("mmap_flags")) return number(pool);
  if (IS("argv") || IS("envp")) {
    u64 *at = (u64 *)room(64);
    at[0] = (u64)path(), at[1] = once_in(10) ? number(-1) : 0, at[2] = 0;
    return once_in(10) ? pointer(-1) : (u64)at;
  }
  if (IS("timespec") || IS("iovec")) {
    u64 *at = (u64 *)room(256);
    if (once_in(4)) return pointer(-1);
    if (IS("iovec")) vectors(at);
    else at[0] = once_in(8) ? number(-1) : 0, at[1] = once_in(8) ? number(-1) : below(2000000);
    return (u64)at;
  }
  return pointer(pool);
}

static void one_call(void) {
  const struct call *call = &ANY_OF(calls);
  if (!strcmp(call->name, "exit") || !strcmp(call->name, "exit_group") || !strncmp(call->name, "exec", 4) ||
      !strcmp(call->name, "pause") || !strcmp(call->name, "pivot_root") || !strcmp(call->name, "chroot") ||
      !strcmp(call->name, "rt_sigreturn") || !strcmp(call->name, "umount2") || !strcmp(call->name, "rt_sigsuspend") ||
      !strcmp(call->name, "close_range") || !strcmp(call->name, "munmap") || !strcmp(call->name, "mprotect") ||
      !strcmp(call->name, "mremap") || (strncmp(call->name, "set", 3) == 0 && strstr(call->name, "id")) || !strcmp(call->name, "mmap") || !strcmp(call->name, "kill"))
    if (below(20)) return;
  u64 arguments[6];
  const char *kind = call->kinds;
  for (int k = 0; k < 6; k++) {
    int length = strcspn(kind, " ");
    arguments[k] = length ? argument(kind, length, call) : draw();
    if (arguments[k] == 1 && !memcmp(kind, "pid", 3)) arguments[k] = 0; /* what is done to init is done to all */
    kind += length + (kind[length] == ' ');
  }
  if (!strcmp(call->name, "mount") && once_in(2)) arguments[1] = (u64)strcpy(room(64), PLACE "/dir");
  static __thread int is_child; /* it goes on for a few calls only, and makes no children */
  int makes = call->nr == SYS_fork || call->nr == SYS_vfork || call->nr == SYS_clone || call->nr == SYS_clone3;
  if (makes && (is_child || below(3))) return;
  pid_t before_pid = getpid();
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  long got = syscall(call->nr, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
  clock_gettime(CLOCK_MONOTONIC, &after);
  long us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
  if (show && us >= show)
    dprintf(2, "%ld us %s(%lx, %lx, %lx, %lx, %lx, %lx) = %ld\n", us, call->name, arguments[0], arguments[1], arguments[2], arguments[3],
            arguments[4], arguments[5], got < 0 ? -errno : got);
  if (makes && getpid() != before_pid) {
    is_child = 1, state += getpid();
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 5000}, {0, 5000}}, 0);
    for (int k = below(20); k--;) one_call();
    _exit(0);
  }
}

static void nothing(int signo) { (void)signo; }

static void open_all(void) {
  int pair[2], status;
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(7000 + below(8)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
  for (int k = 0; k < 3; k++) socketpair(AF_UNIX, types[k] | SOCK_NONBLOCK, 0, pair);
  pipe2(pair, O_NONBLOCK);
  pipe2(pair, O_DIRECT);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, 4);
  if (!bind(listener, (void *)&local, sizeof local)) listen(listener, 4);
  status = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  connect(status, (void *)&local, sizeof local);
  accept4(listener, 0, 0, SOCK_NONBLOCK);
  fcntl(listener, F_SETFL, O_NONBLOCK);
  socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
  socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, 1 + below(17));
  socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_ICMP);
  socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(3));
  socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0);
  socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 4);
  socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 15);
  eventfd(below(3), EFD_NONBLOCK);
  timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  sigset_t all;
  sigfillset(&all);
  signalfd(-1, &all, SFD_NONBLOCK);
  epoll_create1(0);
  syscall(SYS_memfd_create, "fuzz", 2);
  syscall(SYS_pidfd_open, getpid(), 0);
  status = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  grantpt(status), unlockpt(status);
  open(ptsname(status) ?: "/none", O_RDWR | O_NONBLOCK);
  open(PLACE "/a", O_RDWR), open(PLACE "/b", O_RDONLY), open(PLACE "/dir", O_RDONLY), open("/", O_PATH), open(PLACE, O_RDONLY);
  open("/proc", O_RDONLY), open("/proc/self/mem", O_RDWR), open("/etc/passwd", O_RDONLY), open("/dev/zero", O_RDWR);
  while (below(12)) open(ANY_OF(paths), (once_in(2) ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY);
}

static void *second_thread(void *seed) {
  state = (u64)seed;
  for (int k = 0; k < CALLS_PER_BATCH / 2; k++) one_call();
  return 0;
}

static void batch(u64 seed) {
  char name[16];
  snprintf(name, sizeof name, "f%lu", seed);
  prctl(PR_SET_NAME, name);
  state = seed * 0x9E3779B97F4A7C15UL + 1;
  for (int k = 0; k < 10; k++) draw();
  setsid();
  chdir(PLACE);
  for (int fd = 0; fd < 3 && !show; fd++) dup2(open("/dev/null", O_RDWR), fd); /* the output is the test's */
  setrlimit(RLIMIT_FSIZE, &(struct rlimit){64 << 20, 64 << 20});
  setrlimit(RLIMIT_AS, &(struct rlimit){4UL << 30, 4UL << 30});
  setrlimit(RLIMIT_NPROC, &(struct rlimit){200, 200});
  struct sigaction action = {.sa_handler = nothing};
  for (int signo = 1; signo < 32; signo++)
    if (signo != SIGSEGV && signo != SIGBUS && signo != SIGILL && signo != SIGTERM) sigaction(signo, &action, 0);
  setitimer(ITIMER_REAL, &(struct itimerval){{0, 5000}, {0, 5000}}, 0); /* whatever waits is interrupted */
  open_all();
  int thread = once_in(3);
  pthread_t other;
  if (thread) pthread_create(&other, 0, second_thread, (void *)draw());
  for (int k = 0; k < CALLS_PER_BATCH; k++) one_call();
  _exit(0);
}

int main(int argc, char **argv) {
  show = atoi(getenv("FUZZ_SHOW") ?: "0");
  double seconds = atof(argv[1]);
  u64 seed = strtoul(argv[2], 0, 0), first = argc > 3 ? strtoul(argv[3], 0, 0) : 0;
  u64 count = argc > 4 ? strtoul(argv[4], 0, 0) : 1UL << 40, done = 0, number = first;
  struct { pid_t pid; double since; } running[AT_ONCE] = {0};
  mkdir(PLACE, 0777), mkdir(PLACE "/dir", 0777), symlink("a", PLACE "/link"), symlink("loop", PLACE "/loop");
  mkfifo(PLACE "/fifo", 0666);
  mmap(PRIVATE, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  mmap(READ_ONLY, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  mmap(SHARED, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  signal(SIGTERM, SIG_IGN), signal(SIGHUP, SIG_IGN);
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double start = now.tv_sec + now.tv_nsec / 1e9, at = start;
  int alive = 0;
  while (alive || (at < start + seconds && number < first + count)) {
    for (int k = 0; k < AT_ONCE; k++) {
      if (!running[k].pid && at < start + seconds && number < first + count) {
        int fd = open(PLACE "/a", O_CREAT | O_WRONLY, 0666);
        write(fd, "some words\n", 11), close(fd), close(open(PLACE "/b", O_CREAT | O_WRONLY, 0666));
        pid_t pid = fork();
        if (!pid) batch(seed * 1000000 + number);
        if (pid < 0) continue;
        running[k].pid = pid, running[k].since = at, number++, alive++;
      }
      if (running[k].pid && at > running[k].since + 1.5) kill(running[k].pid, SIGKILL);
    }
    pid_t ended;
    while ((ended = waitpid(-1, 0, WNOHANG)) > 0)
      for (int k = 0; k < AT_ONCE; k++)
        if (running[k].pid == ended) kill(-ended, SIGKILL), running[k].pid = 0, alive--, done++;
    usleep(1000);
    clock_gettime(CLOCK_MONOTONIC, &now);
    at = now.tv_sec + now.tv_nsec / 1e9;
  }
  printf("batches %lu\n", done);
  return 0;
}

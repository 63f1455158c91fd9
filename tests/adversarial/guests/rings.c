/* Streams in rings, which both ends write: an end that writes what it likes into positions, flags and bytes, forged reports,
 * rings that are taken away in the middle of calls, and what a child has of them. And eventfds, whose counters all who have
 * them write. */
#include "hostile.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BLOCK 4096
static char block[BLOCK], buffer[BLOCK];

static ssize_t __attribute__((noinline)) out(int fd, const void *at, size_t n) { return write(fd, at, n); }
static ssize_t __attribute__((noinline)) in(int fd, void *at, size_t n) { return read(fd, at, n); }

static volatile u64 *row(int fd) { return (u64 *)(STUB_BASE + HEADER + FILE_ROWS) + fd; }
static volatile u64 *entry(int fd) {
  return (u64 *)(STUB_BASE + HEADER + RINGS + ((*row(fd) >> FILE_UNIT_SHIFT & (RING_COUNT - 1)) << RING_ENTRY_SHIFT));
}
static volatile char *words(int fd) { /* of either ring there is */
  return *row(fd) & FILE_RING_OUT ? (char *)entry(fd)[RING_OUT_WORDS / 8] : (char *)entry(fd)[RING_IN_WORDS / 8];
}

/* A pair of sockets, busy in this process alone, until both have rings. */
static void pair(int *s) {
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) _exit(3);
  for (int k = 0; k < 4000; k++)
    if (out(s[k & 1], block, 256) != 256 || in(s[~k & 1], buffer, 256) != 256) _exit(4);
  for (int k = 0; k < 2; k++)
    if (!(*row(s[k]) & FILE_RING_IN) || !(*row(s[k]) & FILE_RING_OUT)) { dprintf(1, "no ring to attack\n"); _exit(5); }
}
static u64 dice(void) {
  static u64 x = 88172645463325252ull;
  return x ^= x << 13, x ^= x >> 7, x ^= x << 17;
}

/* Whatever stands in the words: the calls end, with no byte outside of what was asked for. */
static void words_of_ones_own(void) {
  int s[2];
  pair(s);
  fcntl(s[0], F_SETFL, O_NONBLOCK), fcntl(s[1], F_SETFL, O_NONBLOCK); /* takes the rings away */
  close(s[0]), close(s[1]);
  for (int turn = 0; turn < 20; turn++) {
    pair(s);
    volatile char *w = words(s[0]);
    u64 values[] = {0, 1, ~0ul, 1ul << 63, 1ul << 32, 4096, 1 << 18, (1 << 18) + 1, dice()};
    for (int k = 0; k < 300; k++) {
      u64 place = (dice() % 8) * 64;
      if (place % 256 < 128) *(volatile u64 *)(w + place) = values[dice() % 9];
      else *(volatile u32 *)(w + place) = values[dice() % 9];
      char guarded[256];
      memset(guarded, 0x5a, sizeof guarded);
      ssize_t n = recv(s[1], guarded + 64, 128, MSG_DONTWAIT);
      for (int at = 0; at < 256; at++)
        if ((at < 64 || at >= 192 || (n >= 0 && at >= 64 + n)) && guarded[at] != 0x5a) gained("bytes beside a buffer");
      send(s[0], block, 128, MSG_DONTWAIT);
      n = recv(s[0], guarded + 64, 128, MSG_DONTWAIT);
    }
    close(s[0]), close(s[1]);
  }
  pair(s); /* and the next is as good as any */
  memset(block, 7, 100);
  if (out(s[0], block, 100) != 100 || in(s[1], buffer, 100) != 100 || memcmp(block, buffer, 100)) gained("other bytes");
}

/* An end that spoils the ring all the time, in another process: the stream's bytes are what they are, and nothing else. */
static void the_other_end(void) {
  int s[2], status;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) _exit(3);
  pid_t victim = fork_apart();
  if (!victim) {
    close(s[0]);
    alarm(3);
    signal(SIGALRM, _exit);
    static char room[3 * BLOCK];
    memset(room, 0x5a, sizeof room);
    for (;;) {
      ssize_t n = in(s[1], room + BLOCK, BLOCK);
      if (n > BLOCK) _exit(9);
      for (int k = 0; k < BLOCK; k++)
        if (room[k] != 0x5a || room[2 * BLOCK + k] != 0x5a) _exit(10);
      if (send(s[1], room + BLOCK, 64, MSG_DONTWAIT) == 0) _exit(11);
    }
  }
  close(s[1]);
  for (int k = 0; k < 4000 && !(*row(s[0]) & FILE_RING_OUT); k++)
    if (out(s[0], block, 256) != 256 || recv(s[0], buffer, 256, 0) <= 0) break;
  volatile char *w = *row(s[0]) & FILE_RING_OUT ? words(s[0]) : 0;
  for (long k = 0; w && k < 3000000; k++) {
    if (k % 3) *(volatile u64 *)(w + dice() % 4 * 64 + (dice() & 256)) = dice() >> dice() % 64;
    else if (k % 3000 == 0) send(s[0], block, 100, MSG_DONTWAIT);
  }
  waitpid(victim, &status, 0);
  if (!w) { dprintf(1, "no ring to attack\n"); _exit(5); }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != SIGALRM) gained("the other end's memory, or its life");
}

/* Whatever stands in rows and entries, and wherever sets, times and masks lie: poll and select end, and nothing beside what
 * they are given is written. */
static void polls_of_ones_own(void) {
  int s[2];
  pair(s);
  u64 kept[8], own = *row(s[0]);
  for (int k = 0; k < 8; k++) kept[k] = entry(s[0])[k];
  volatile u64 *at = entry(s[0]);
  static struct { char before[64]; u64 words[24]; char behind[64]; } sets, times;
  u64 places[] = {(u64)sets.words, (u64)sets.words + 3, STUB_BASE, slot_address() + OPS, STUB_BASE + HEADER + FILE_ROWS, 0x666000, 1ul << 63,
                  ~0ul - 3, 0, 8};
  for (int k = 0; k < 12000; k++) {
    *row(s[0]) = k % 4 ? own ^ (k % 3 ? 0 : 1ul << dice() % 64) : dice();
    for (int n = 0; n < 8; n++) at[n] = dice() % 6 ? kept[n] : dice() % 2 ? dice() >> dice() % 64 : places[dice() % 10];
    memset(&sets, 0x5a, sizeof sets), memset(&times, 0x5a, sizeof times);
    for (int n = 0; n < 24; n++) sets.words[n] = dice() % 3 ? 0 : dice() % 2 ? 1ul << s[0] : dice();
    for (int n = 0; n < 24; n++) times.words[n] = dice() % 4 ? 0 : dice() % 2 * (n & 1); /* no second */
    void *where = (void *)places[dice() % 3 ? 0 : dice() % 10], *time = times.words;
    int kind = k % 4, count = 1 + dice() % 10;
    if (kind < 2)
      for (int n = 0; n < count; n++) sets.words[n] = s[0] | dice() << 32;
    if (kind == 0) syscall(SYS_poll, where, count, dice() % 2);
    else if (kind == 1) syscall(SYS_ppoll, where, count, time, dice() % 2 ? 0 : where, 8);
    else syscall(kind == 2 ? SYS_select : SYS_pselect6, 1 + dice() % 64, dice() % 2 ? where : 0, dice() % 2 ? where : 0,
                 dice() % 2 ? sets.words + 1 : 0, time, dice() % 4 ? 0 : where);
    for (int n = 0; n < 64; n++)
      if (sets.before[n] != 0x5a || sets.behind[n] != 0x5a || times.before[n] != 0x5a || times.behind[n] != 0x5a)
        gained("bytes beside a set");
  }
  *row(s[0]) = own;
  for (int k = 0; k < 8; k++) at[k] = kept[k];
  struct pollfd p = {s[0], POLLIN | POLLOUT, 0};
  if (poll(&p, 1, 0) != 1 || p.revents != POLLOUT) gained("another answer");
}

/* Reports of what never was. */
static void forged_reports(void) {
  int s[2];
  pair(s);
  for (u64 k = 0; k < 4000; k++) {
    u64 results[] = {0, 1, ~0ul, 1ul << 63, 1ul << 40, 0x7ffff001};
    u64 slot = slot_address();
    SLOT64(slot, NR) = results[k % 6];
    SLOT64(slot, ARGS) = k % 3 ? (u64)s[k & 1] : dice();
    SLOT32(slot, KIND) = RING_MOVED;
    __atomic_exchange_n((u32 *)(slot + STATE), READY, __ATOMIC_SEQ_CST);
    ring();
    while (SLOT32(slot, STATE) == READY) burn(1000);
    if (SLOT32(slot, STATE) == RETURN_NOW && SLOT64(slot, RESULT) > MAX_RW) gained("a result");
  }
}

/* One that has itself sleep where nobody wakes it, by its own row: it is killed as any other, its signals still come, and
 * the other end's calls go on. */
static void asleep_by_ones_own_row(void) {
  int s[2], status;
  for (int turn = 0; turn < 4; turn++) {
    pid_t sleeper = fork_apart();
    if (!sleeper) {
      pair(s);
      *row(s[0]) |= 1ul << FILE_RING_WAITS;
      signal(SIGALRM, _exit);
      if (turn & 1) alarm(1);
      if (turn & 2) { /* wherever that word is said to lie */
        entry(s[0])[RING_IN_WORDS / 8] = slot_address() + 0x80;
        *(volatile u64 *)(slot_address() + 0x80 + RING_HEAD) = *(volatile u64 *)(slot_address() + 0x80 + RING_TAIL) = 0;
      }
      in(s[0], buffer, 16);
      _exit(7);
    }
    usleep(200000);
    if (!(turn & 1)) kill(sleeper, SIGKILL);
    waitpid(sleeper, &status, 0);
    if (turn & 1 ? !WIFEXITED(status) || WEXITSTATUS(status) != SIGALRM : !WIFSIGNALED(status)) _exit(8);
  }
  pair(s); /* whom both ends belong to: the one that sleeps is a child that has the row, not the end */
  volatile u32 *flag = (u32 *)((char *)entry(s[0])[RING_IN_WORDS / 8] + RING_CONSUMER_WAITS);
  for (int k = 0; k < 2000; k++) {
    *flag = dice() % 3 ? RING_SLEEPS : (u32)dice();
    if (send(s[1], block, 1 + dice() % 64, MSG_DONTWAIT) < 0) _exit(9);
    if (recv(s[0], buffer, 64, MSG_DONTWAIT) <= 0) _exit(10);
  }
}

/* Not in a child's memory, and what it says of its own descriptors is its own affair. */
static void in_a_child(void) {
  int s[2], status;
  pair(s);
  volatile char *w = words(s[0]);
  if (!fork_apart()) {
    if (*row(s[0]) || *row(s[1])) _exit(1);
    _exit(readable(w) ? 2 : 0);
  }
  wait(&status);
  if (status) gained("a parent's rings");
  if (out(s[0], "after", 5) != 5 || in(s[1], buffer, 16) != 5 || memcmp(buffer, "after", 5)) gained("other bytes");
}

/* The reader takes the rings away at any moment of the writer's calls: every byte comes once, in its place. */
static void taken_away(void) {
  int s[2], status;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) _exit(3);
  pid_t writer = fork_apart();
  if (!writer) {
    close(s[0]);
    u64 next = 0;
    static u64 numbers[256];
    for (int k = 0; k < 16000; k++) {
      u64 count = 1 + dice() % 256;
      for (u64 n = 0; n < count; n++) numbers[n] = next + n;
      for (u64 done = 0; done < count * 8;) {
        ssize_t n = out(s[1], (char *)numbers + done, count * 8 - done);
        if (n <= 0) _exit(1);
        done += n;
      }
      next += count;
    }
    _exit(0);
  }
  close(s[1]);
  u64 at = 0, rings = 0, had = 0;
  static unsigned char got[BLOCK];
  for (;;) {
    ssize_t n = in(s[0], got, 1 + dice() % BLOCK);
    if (n < 0) _exit(6);
    if (!n) break;
    for (ssize_t k = 0; k < n; k++, at++)
      if (got[k] != (unsigned char)(at / 8 >> at % 8 * 8)) gained("bytes twice, or none");
    u64 has = *row(s[0]) != 0;
    rings += has && !had;
    had = has;
    if (has && dice() % 1000 == 0) setsockopt(s[0], SOL_SOCKET, SO_PRIORITY, &(int){0}, 4);
  }
  waitpid(writer, &status, 0);
  if (status) gained("a writer's end");
  if (!rings) { dprintf(1, "no ring to attack\n"); _exit(5); }
}

/* An eventfd, busy until its counter is shared. */
static int counter(void) {
  int fd = eventfd(0, EFD_NONBLOCK);
  u64 one = 1;
  for (int k = 0; k < 2000; k++) out(fd, &one, 8), in(fd, &one, 8);
  if (!(*row(fd) >> FILE_COUNTER & 1)) { dprintf(1, "no counter to attack\n"); _exit(5); }
  return fd;
}
static volatile char *page(int fd) { return (char *)(FILE_WINDOWS + ((*row(fd) >> FILE_UNIT_SHIFT & FILE_UNIT_MASK) << FILE_UNIT)); }

/* Whatever stands in a counter, its flags and its row, while another process, which has it too, reads, writes, polls and waits
 * for it: its calls end as those of any eventfd, and other eventfds are as good as before. */
static void counters_of_ones_own(void) {
  int fd = counter(), other = counter(), status;
  u64 value = 5, values[] = {0, 1, ~0ul, ~0ul - 1, ~0ul - 2, 1ul << 63};
  pid_t victim = fork_apart();
  if (!victim) {
    alarm(3);
    signal(SIGALRM, _exit);
    for (int k = 0;; k++) {
      u64 guarded[3] = {7, 7, 7};
      ssize_t n = in(fd, guarded + 1, 8);
      if (guarded[0] != 7 || guarded[2] != 7 || (n != 8 && errno != EAGAIN)) _exit(9);
      n = out(fd, &value, 8);
      if (n != 8 && errno != EAGAIN) _exit(10);
      struct pollfd p = {fd, POLLIN | POLLOUT, 0};
      if (poll(&p, 1, k % 16 ? 0 : 1) < 0 || p.revents & ~(POLLIN | POLLOUT | POLLERR)) _exit(11);
    }
  }
  volatile char *w = page(fd);
  u64 own = *row(fd);
  for (long k = 0; k < 3000000; k++) {
    if (k % 64 == 63) *(volatile u32 *)(w + (dice() & 1 ? RING_CONSUMER_WAITS : RING_PRODUCER_WAITS)) = dice();
    else *(volatile u64 *)w = dice() & 7 ? values[dice() % 6] : dice();
    if (k % 3000) continue;
    *row(fd) = k % 9000 ? own : own ^ 1ul << dice() % 64;
    value = 1;
    dice() & 1 ? in(fd, &value, 8) : out(fd, &value, 8);
  }
  *row(fd) = own;
  waitpid(victim, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != SIGALRM) gained("another's life, or its memory");
  value = 12345;
  if (out(other, &value, 8) != 8 || in(other, &value, 8) != 8 || value != 12345) gained("another counter");
  close(fd); /* who still has the mapping, if it keeps it, has nobody's counter */
  if (readable(w)) *(volatile u64 *)w = 99;
  fd = counter();
  if (out(fd, &value, 8) != 8 || in(fd, &value, 8) != 8 || value != 12345) gained("a later counter");
}

/* One that dies in the middle of its calls: whoever waits for what it did is told. */
static void killed_between(void) {
  int fd = eventfd(0, 0), status;
  u64 sum = 0, value;
  for (int turn = 0; turn < 60; turn++) {
    pid_t adder = fork_apart();
    if (!adder) {
      u64 one = 1;
      for (;;) out(fd, &one, 8);
    }
    for (int k = 0; k < 20; k++) {
      if (in(fd, &value, 8) != 8) _exit(6);
      sum += value;
    }
    burn(dice() % 100000);
    kill(adder, SIGKILL);
    waitpid(adder, &status, 0);
    struct pollfd p = {fd, POLLIN, 0};
    while (poll(&p, 1, 0) > 0) in(fd, &value, 8);
  }
}

#define A(name) {#name, name}
const struct attack attacks[] = {A(words_of_ones_own), A(polls_of_ones_own), A(the_other_end), A(forged_reports), A(in_a_child),
                                 A(asleep_by_ones_own_row), A(taken_away), A(counters_of_ones_own), A(killed_between), {0, 0}};

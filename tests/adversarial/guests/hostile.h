/* What every hostile guest shares: the stub's addresses (generated: stub_addresses.h), jumping into it, forging a slot. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "stub_addresses.h"

typedef uint64_t u64;
typedef uint32_t u32;

struct attack {
  const char *name;
  void (*run)(void); /* returns: harmless so far; the attacker then exits with 0 */
  int seconds;       /* how long it may take, 0: the usual few */
};
extern const struct attack attacks[];

/* The attacker got what it must not have. */
void gained(const char *what);

/* A system call by the plain instruction, never through a patched site of the C library. */
static inline long trap(long nr, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  __asm__ volatile("nop; syscall; nop" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

/* Go to the system-call instruction that ends at `ip`, with these registers, on a stack that leads back here whichever of
 * the stub's ways out is taken (it pops six registers behind its clone, none elsewhere). */
long jump(u64 ip, int pops, long nr, long a, long b, long c, long d, long e, long f);

static inline u64 slot_address(void) {
  u64 slot;
  __asm__ volatile("rdgsbase %0" : "=r"(slot));
  return slot;
}
#define SLOT32(slot, off) (*(volatile u32 *)((slot) + (off)))
#define SLOT64(slot, off) (*(volatile u64 *)((slot) + (off)))

/* Show the Sentry an event that never was, and wait a moment for what it makes of it. */
void forge(u32 kind, u64 nr, u64 uc);
static inline void ring(void) { jump(IP_ring_ip, 0, 1, DOORBELL_FD, (long)&(u64){1}, 8, 0, 0, 0); }

static inline void pause_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, 0);
}

/* A child with memory of its own from the start: it makes a call that ends a loan (services/sentry/kernel/loans.py). */
static inline pid_t fork_apart(void) {
  pid_t pid = fork();
  if (!pid) sched_yield();
  return pid;
}

/* Whoever reads a process's maps has the Sentry look at its areas: the process itself, or a child of it, again and again. */
static inline void read_maps(const char *name) {
  char text[4096];
  int fd = open(name, O_RDONLY);
  while (read(fd, text, sizeof text) > 0);
  close(fd);
}
static inline void look_at_areas(void) { read_maps("/proc/self/maps"); }
static inline void fork_reader(void) {
  pid_t self = getpid();
  if (fork_apart()) return;
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/maps", self);
  for (int k = 0; k < 300; k++) read_maps(name);
  _exit(0);
}

/* Time by the processor's counter: for those who must not make calls. */
static inline void burn(u64 cycles) {
  u64 start = __builtin_ia32_rdtsc();
  while (__builtin_ia32_rdtsc() - start < cycles) __builtin_ia32_pause();
}

/* Whether a byte at `at` can be read: a fault is caught. */
int readable(const volatile void *at);
int writable(volatile void *at);

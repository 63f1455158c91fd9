/* Writing what one likes over one's slots, and forging events in them. */
#include "hostile.h"

#define SLOTS_START (STUB_BASE + SLOTS)
#define SLOTS_LENGTH ((u64)SLOT_SIZE * SLOTS_PER_REGION)
#define TARGET 0x10000000000L

static void write_text(void) { *(volatile char *)STUB_BASE = 0; }
static void write_global(void) { *(volatile u32 *)(STUB_BASE + GLOBAL) = 1; }

static void fill(int random) {
  u64 x = 88172645463325252ul;
  for (u64 at = SLOTS_START; at < SLOTS_START + SLOTS_LENGTH; at += 8) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    *(volatile u64 *)at = random ? x : 0;
  }
}
static void zeros(void) {
  fill(0);
  for (int k = 0; k < 5; k++) trap(SYS_getppid, 0, 0, 0, 0, 0, 0);
}
static void garbage(void) {
  for (int k = 0; k < 20; k++) {
    fill(1);
    ring();
    trap(SYS_getppid, 0, 0, 0, 0, 0, 0);
  }
}
static void garbage_then_fork(void) {
  for (u64 at = SLOTS_START + SLOT_SIZE; at < SLOTS_START + SLOTS_LENGTH; at += 8) *(volatile u64 *)at = ~at;
  for (int k = 0; k < 5; k++)
    if (!fork_apart()) trap(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

/* A child in its parent's memory: with that it may do what it likes, as a debugger might, or kill(2); with no other. */
static void in_loan(void (*act)(void)) {
  int pid = fork(), status;
  if (!pid) {
    act();
    for (;;) trap(SYS_exit_group, 0, 0, 0, 0, 0, 0);
  }
  waitpid(pid, &status, 0);
}
static void jump_away(void) { jump(IP_ring_ip, 0, SYS_kill, getppid(), 9, 0, 0, 0, 0); }
static void wrong_sizes(void) {
  u64 x = 0x9e3779b97f4a7c15ul;
  for (u64 at = STUB_BASE + HEADER + LOAN; at < STUB_BASE + HEADER + LOAN_BYTES; at += 8)
    *(volatile u64 *)at = x ^= x << 13, x ^= x >> 7, x ^= x << 17;
}
static void no_memory(void) { jump(IP_unmap_ip, 0, SYS_munmap, 0x10000, STUB_BASE - 0x10000, 0, 0, 0, 0); }
static void keep(void) { burn(1000000000); }
static void loan_jump(void) { in_loan(jump_away); }
static void loan_sizes(void) { in_loan(wrong_sizes); }
static void loan_garbage(void) { in_loan(garbage); }
static void loan_unmaps(void) { in_loan(no_memory); }
static void loan_keeps(void) { in_loan(keep); }

static void each_kind(int from, int to, u64 nr, u64 uc) {
  for (int kind = from; kind < to; kind++) {
    int pid = fork_apart();
    if (!pid) {
      forge(kind, nr, uc);
      for (;;) trap(SYS_exit_group, 0, 0, 0, 0, 0, 0); /* the forged call's answer may be taken for this one's */
    }
    int status, done = 0;
    for (int k = 0; k < 40 && !(done = waitpid(pid, &status, WNOHANG)); k++) pause_ms(1);
    if (!done) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
    }
  }
}
static void kinds(void) { each_kind(0, 256, 39, 0); }
static void kinds_huge_number(void) { each_kind(0, 10, ~0ul, ~0ul); }
static void kinds_odd_number(void) { each_kind(0, 10, 0x40000000 | 39, STUB_BASE); }
/* every system call as an event that never was, with wild pointers */
static void numbers_a(void) { for (int nr = 0; nr < 160; nr++) each_kind(2, 3, nr, 0); }
static void numbers_b(void) { for (int nr = 160; nr < 320; nr++) each_kind(2, 3, nr, 0); }
static void numbers_c(void) { for (int nr = 320; nr < 470; nr++) each_kind(2, 3, nr, 0); }
static void numbers_fast(void) { for (int nr = 0; nr < 470; nr++) each_kind(1, 2, nr, 0); }
static void ucontexts(void) {
  u64 slot = slot_address();
  u64 at[] = {0, 1, ~0ul, slot, slot + STACK, slot + SLOT_SIZE - 304, slot + SLOT_SIZE - 8, slot + SLOT_SIZE, slot - 1,
              STUB_BASE, 0x8000000000000000, slot + STACK + 3};
  for (unsigned k = 0; k < sizeof at / sizeof *at; k++) {
    each_kind(2, 3, SYS_fork, at[k]);
    each_kind(2, 3, SYS_rt_sigreturn, at[k]);
    each_kind(3, 5, 0, at[k]);
  }
}
static void event_kind(u32 kind) { forge(kind, 39, 0); pause_ms(20); }
static void ops_done_unasked(void) { event_kind(5); }
static void frame_taken_unasked(void) { event_kind(6); }
static void unknown_kind(void) { event_kind(77); }

/* A second thread flips what was posted for the first while that one makes mappings, threads and processes. */
static volatile u64 victim;
static void *flip(void *p) {
  u64 slot = victim, x = 1234567;
  volatile u64 *op = (volatile u64 *)(slot + OPS);
  long what = (long)p;
  for (;;) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    if (what == 0) {
      if (op[1]) op[1] = TARGET; /* of a file's mapping: elsewhere, executable, from another page, of another file */
      op[3] = 7;
      op[5] = x & 1 ? ARENA_FD : op[5];
    } else if (what == 1) {
      op[8 + 2] = -1; /* the child's header: "shares the address space" */
      op[8 + 1] = slot + (x & 0x7ff8);
      op[8 + 5] = (x & 15) * REGION_SIZE;
    } else if (what == 2) {
      op[x % 200] = x;
    } else if (what == 3) {
      SLOT64(slot, x & 0x178) = x >> 32;
    } else if (what == 4) {
      op[1] |= CLONE_UNTRACED;
    } else {
      SLOT32(slot, x & 1 ? COMMAND : KIND) = x >> 8 & 7;
    }
  }
  return p;
}
static void race(long what, int forks) {
  pthread_t t;
  victim = slot_address();
  pthread_create(&t, 0, flip, (void *)what);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    if (forks) {
      long pid = trap(SYS_fork, 0, 0, 0, 0, 0, 0);
      if (!pid) trap(SYS_exit_group, 0, 0, 0, 0, 0, 0);
      if (pid > 0) trap(SYS_wait4, pid, 0, 0, 0, 0, 0);
    } else {
      int fd = what ? -1 : open("/proc/self/exe", O_RDONLY);
      long at = trap(SYS_mmap, 0, 8192, 1, MAP_PRIVATE | (what ? MAP_ANONYMOUS : 0), fd, 0);
      if (!what) close(fd);
      if (at > 0) trap(SYS_munmap, at, 8192, 0, 0, 0, 0);
    }
    if (!what && readable((void *)TARGET)) gained("a mapping that was not posted");
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < 2);
}
static void race_mmap(void) { race(0, 0); }
static void race_clone_child(void) { race(1, 1); }
static void race_ops(void) { race(2, 0); }
static void race_ops_fork(void) { race(2, 1); }
static void race_slot(void) { race(3, 0); }
static void race_clone_flags(void) { race(4, 1); }
static void race_command(void) { race(5, 0); }

/* A fork that the Sentry posts for a thread that is not in the stub at all: carried out by hand, with the child's registers
 * of one's own choice; and never. */
static void forge_fork(int then) {
  u64 slot = slot_address();
  u64 uc = slot + SLOT_SIZE - 0x400;
  SLOT64(slot, NR) = SYS_fork;
  SLOT64(slot, UCONTEXT) = uc;
  SLOT32(slot, KIND) = 2;
  __atomic_exchange_n((u32 *)(slot + STATE), READY, __ATOMIC_SEQ_CST);
  ring();
  for (int k = 0; k < 500 && !(SLOT32(slot, STATE) == RESUME && SLOT32(slot, COMMAND) == COMMAND_CLONE); k++) burn(1000000);
  volatile u64 *op = (volatile u64 *)(slot + OPS);
  if (op[0] != SYS_clone) _exit(3);
  if (then == 0) burn(3000000000ul); /* never: the Sentry must not spin for it, nor believe another event */
  if (then == 1) {
    register long r12 __asm__("r12") = -1, rbx __asm__("rbx") = slot, r15 __asm__("r15") = 3L << 32;
    long result;
    __asm__ volatile("sub $256, %%rsp; lea 1f(%%rip), %%r8; push %%r8; sub $48, %%rsp; xor %%r8, %%r8; jmp *%1; 1: add $256, %%rsp"
                     : "=a"(result)
                     : "r"((u64)IP_clone_ip - 2), "a"(SYS_clone), "D"(op[1]), "S"(op[2]), "d"(0L), "r"(r12), "r"(rbx), "r"(r15)
                     : "rcx", "r11", "r8", "r10", "r13", "r14", "rbp", "memory");
  }
  if (then == 2) { /* claim that it went well and name somebody else's process */
    op[7] = 2;
    SLOT32(slot, KIND) = 5;
    SLOT32(slot, STATE) = READY;
    ring();
    burn(300000000ul);
  }
  if (then == 3) { /* name oneself */
    for (int pid = 1; pid < 200; pid++) op[7] = pid;
    SLOT32(slot, KIND) = 5;
    SLOT32(slot, STATE) = READY;
    ring();
  }
  _exit(0);
}
static void fork_never(void) { forge_fork(0); }
static void fork_child_of_own_making(void) { forge_fork(1); }
static void fork_result_of_others(void) { forge_fork(2); }
static void fork_result_of_own(void) { forge_fork(3); }

static void gs_base(void) {
  u64 bases[] = {0, 0x1000, ~0ul << 47, STUB_BASE, STUB_BASE + HEADER, 0x7fffffffe000};
  for (unsigned k = 0; k < 5; k++) {
    __asm__ volatile("wrgsbase %0" ::"r"(k == 2 ? 0x700000000000 : bases[k]));
    for (int n = 0; n < 100; n++) trap(SYS_getppid, 0, 0, 0, 0, 0, 0);
  }
}
static void gs_of_another_thread(void) {
  __asm__ volatile("wrgsbase %0" ::"r"(slot_address() + SLOT_SIZE));
  for (int n = 0; n < 100; n++) trap(SYS_getppid, 0, 0, 0, 0, 0, 0);
}

/* Hot call sites beside threads that are said to be stopped and are not: one that never makes a call, one that says it has
 * posted something, one that says so of the caller. */
static volatile u64 caller_slot;
static void *never_calls(void *p) {
  for (;;) ;
  return p;
}
static void *says_it_posted(void *p) {
  for (u64 slot = slot_address();; burn(20000)) SLOT32(slot, STATE) = READY;
  return p;
}
static void *speaks_for_the_caller(void *p) {
  for (;; burn(50000))
    if (caller_slot) SLOT32(caller_slot, STATE) = READY;
  return p;
}
static void race_stop(void) {
  static void *(*const others[])(void *) = {never_calls, says_it_posted, speaks_for_the_caller};
  enum { SITES = 64, SIZE = 8 };
  unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int k = 0; k < SITES; k++) memcpy(code + SIZE * k, "\xb8\x66\0\0\0\x0f\x05\xc3", SIZE); /* getuid */
  mprotect(code, 4096, PROT_READ | PROT_EXEC);
  for (int n = 0; n < 3; n++) {
    int pid = fork_apart();
    if (!pid) {
      pthread_t thread;
      pthread_create(&thread, 0, others[0], 0);
      if (n) pthread_create(&thread, 0, others[n], 0);
      caller_slot = slot_address();
      for (int k = 0; k < SITES; k++)
        for (int j = 0; j < 400; j++) ((long (*)(void))(code + SIZE * k))();
      _exit(0);
    }
    for (int k = 0; k < 100 && !waitpid(pid, 0, WNOHANG); k++) pause_ms(10);
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
  }
}

static void own_mask(void) { /* what it says of its mask is believed, but not that SIGKILL is blocked */
  SLOT64(slot_address(), MASK) = ~0ul;
  sigset_t all, old;
  sigfillset(&all);
  for (int k = 0; k < 300; k++) {
    sigprocmask(SIG_BLOCK, &all, &old);
    trap(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0, 0);
    SLOT64(slot_address(), MASK) = k % 2 ? ~0ul : MASK_SHARED | MASK_TRAPS | 0xff0ff;
  }
  kill(getpid(), SIGKILL);
  pause_ms(100);
  gained("a life without end");
}

#define A(n) {#n, n}
#define LONG(name) {#name, name, 60} /* hundreds of forged events: seconds, and more where others compute */
const struct attack attacks[] = {
    A(write_text), A(write_global), A(zeros), A(garbage), A(garbage_then_fork), LONG(kinds),
    LONG(kinds_huge_number), LONG(kinds_odd_number), LONG(numbers_a), LONG(numbers_b), LONG(numbers_c), LONG(numbers_fast),
    LONG(ucontexts), A(ops_done_unasked),
    A(frame_taken_unasked), A(unknown_kind), A(race_mmap), A(race_clone_child), A(race_ops), A(race_ops_fork),
    A(race_slot), {"race_stop", race_stop, 60}, A(race_clone_flags), A(race_command), A(fork_never), A(fork_child_of_own_making),
    A(fork_result_of_others), A(fork_result_of_own), A(own_mask), A(gs_base), A(gs_of_another_thread),
    A(loan_jump), A(loan_sizes), A(loan_garbage), A(loan_unmaps), A(loan_keeps), {0, 0}};

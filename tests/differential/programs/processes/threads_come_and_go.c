// Threads and vfork children that begin where others just ended: each has its own registers, TLS, signal mask and
// alternate stack, whatever the one before left behind; floating-point state is the creator's.
#include "../check.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { NEAREST = 0, DOWN = 1, UP = 2 };
static int rounding(void) { return __builtin_ia32_stmxcsr() >> 13 & 3; }
static void set_rounding(int mode) { __builtin_ia32_ldmxcsr((__builtin_ia32_stmxcsr() & ~(3 << 13)) | mode << 13); }

static __thread int own = 7;
static volatile int handled;

static void on_signal(int s) { (void)s; handled++; }

static void *dirty(void *a) {
  own += 1 + (int)(long)a;
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, 0);
  stack_t st = {.ss_sp = malloc(SIGSTKSZ), .ss_size = SIGSTKSZ};
  sigaltstack(&st, 0);
  set_rounding(UP);
  return (void *)(long)own;
}

static void *clean(void *a) {
  sigset_t now;
  stack_t st;
  pthread_sigmask(SIG_BLOCK, 0, &now);
  sigaltstack(0, &st);
  int usr1 = sigismember(&now, SIGUSR1), same = rounding() == (int)(long)a;
  return (void *)(long)(own * 1000 + usr1 * 100 + (st.ss_flags == SS_DISABLE) * 10 + same);
}

static void *take_signal(void *a) {
  (void)a;
  int before = handled;
  pthread_kill(pthread_self(), SIGUSR1);
  return (void *)(long)(handled - before);
}

static void *sleep_long(void *a) {
  for (;;) pause();
  return a;
}

static long joined(void *(*f)(void *), long argument) {
  pthread_t t;
  void *result;
  if (pthread_create(&t, 0, f, (void *)argument)) return -1;
  pthread_join(t, &result);
  return (long)result;
}

int main(void) {
  signal(SIGUSR1, on_signal);
  long sum = 0;
  for (int k = 0; k < 40; k++) {
    sum += joined(dirty, k);
    long seen = joined(clean, NEAREST);
    if (seen != 7011) printf("round %d: %ld\n", k, seen);
    if (joined(take_signal, 0) != 1) printf("round %d: no signal\n", k);
  }
  printf("sum %ld\n", sum);

  set_rounding(DOWN); // a thread inherits its creator's
  printf("rounding inherited %ld\n", joined(clean, DOWN) % 10);
  set_rounding(NEAREST);

  int bad = 0;
  for (int k = 0; k < 60; k++) { // vfork children that end in every way, then threads again
    volatile int local = k;
    pid_t p = vfork();
    if (!p) {
      if (k % 3 == 0) _exit(local & 63);
      if (k % 3 == 1) execl("/bin/sh", "sh", "-c", "exit 5", (char *)0);
      raise(SIGKILL);
    }
    int st;
    waitpid(p, &st, 0);
    int right = k % 3 == 0 ? WIFEXITED(st) && WEXITSTATUS(st) == (k & 63) : k % 3 == 1 ? WIFEXITED(st) && WEXITSTATUS(st) == 5
                                                                                       : WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL;
    bad += !right || local != k;
    if (k % 10 == 0) bad += joined(clean, NEAREST) != 7011;
  }
  printf("vfork bad %d\n", bad);

  pthread_t many[30]; // more than are kept, all at once, some cancelled while they sleep
  for (int round = 0; round < 4; round++) {
    for (int k = 0; k < 30; k++) pthread_create(&many[k], 0, k % 2 ? sleep_long : clean, (void *)(long)NEAREST);
    long good = 0;
    for (int k = 0; k < 30; k++) {
      void *result;
      if (k % 2) pthread_cancel(many[k]);
      pthread_join(many[k], &result);
      good += result == (k % 2 ? PTHREAD_CANCELED : (void *)7011);
    }
    printf("round %d good %ld\n", round, good);
  }

  pid_t child = fork(); // a fork of a process that has threads waiting for work
  if (!child) {
    printf("in a child %ld\n", joined(clean, NEAREST));
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, 0, 0);
  printf("and here %ld\n", joined(clean, NEAREST));
  return 0;
}

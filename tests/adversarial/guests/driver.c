/* The driver: runs the attacks named on the command line, each in a process of its own, and after each shows that this
 * process, a worker beside it and new ones go on working. One line an attack: NAME exit STATUS | NAME signal NUMBER |
 * NAME hangs (it did not even end by SIGKILL). Ends with "all is well". */
#include "hostile.h"

static sigjmp_buf back;
static void jumped(int signo) { (void)signo; siglongjmp(back, 1); }

static int probe(volatile char *at, int write) {
  struct sigaction action = {.sa_handler = jumped}, old[2];
  sigaction(SIGSEGV, &action, &old[0]);
  sigaction(SIGBUS, &action, &old[1]);
  int fine = 0;
  if (!sigsetjmp(back, 1)) {
    char c = *at;
    if (write) *at = c;
    fine = 1;
  }
  sigaction(SIGSEGV, &old[0], 0);
  sigaction(SIGBUS, &old[1], 0);
  return fine;
}
int readable(const volatile void *at) { return probe((volatile char *)at, 0); }
int writable(volatile void *at) { return probe(at, 1); }

void gained(const char *what) {
  dprintf(1, "GAINED %s\n", what);
  _exit(66);
}

__asm__(
    ".globl jump\n"
    "jump:\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rsp, %rbp\n"
    "  lea 2f(%rip), %rbx\n"
    "  push %rbx\n"
    "  lea -2(%rdi), %r11\n"          /* the instruction's own address */
    "  test %esi, %esi\n"
    "  jz 1f\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "1: mov %rdx, %rax\n"
    "  mov %rcx, %rdi\n"
    "  mov %r8, %rsi\n"
    "  mov %r9, %rdx\n"
    "  mov 56(%rbp), %r10\n"
    "  mov 64(%rbp), %r8\n"
    "  mov 72(%rbp), %r9\n"
    "  jmp *%r11\n"
    "2: mov %rbp, %rsp\n"
    "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "  ret\n");

void forge(u32 kind, u64 nr, u64 uc) {
  u64 slot = slot_address();
  SLOT64(slot, NR) = nr;
  for (int k = 0; k < 6; k++) SLOT64(slot, ARGS + 8 * k) = 0xdeadbeefdead0000 + 16 * kind + k;
  for (int k = 0; k < 23; k++) SLOT64(slot, REGS + 8 * k) = 0x8000000000000000 >> k;
  SLOT64(slot, UCONTEXT) = uc;
  SLOT32(slot, SIGNO) = 0x80000000 + kind;
  SLOT32(slot, KIND) = kind;
  __atomic_exchange_n((u32 *)(slot + STATE), READY, __ATOMIC_SEQ_CST);
  ring();
  for (int k = 0; k < 200 && SLOT32(slot, STATE) == READY; k++) burn(100000);
}

static int worker_in[2], worker_out[2];
static void worker(void) {
  char c;
  while (read(worker_in[0], &c, 1) == 1) {
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[4096] = c;
    int pid = fork_apart(), status;
    if (!pid) _exit(page[4096]);
    waitpid(pid, &status, 0);
    munmap(page, 8192);
    c = (char)WEXITSTATUS(status);
    if (write(worker_out[1], &c, 1) != 1) break;
  }
  _exit(0);
}

static void check_worker(void) {
  static char n = 1;
  char c = 0;
  n = n % 100 + 1;
  if (write(worker_in[1], &n, 1) != 1 || read(worker_out[0], &c, 1) != 1 || c != n) {
    printf("the worker no longer works: %d for %d\n", c, n);
    exit(67);
  }
}

static void run(const struct attack *attack) {
  int pid = fork_apart(), status = 0, done = 0;
  if (!pid) {
    setpgid(0, 0); /* one that loses its way and kills its process group harms no other: that is its right */
    attack->run();
    trap(SYS_exit_group, 0, 0, 0, 0, 0, 0);
  }
  if (pid < 0) {
    printf("%s: no fork: %m\n", attack->name);
    exit(67);
  }
  int most = attack->seconds ? attack->seconds * 100 : 600;
  for (int k = 0; k < most && !(done = waitpid(pid, &status, WNOHANG)); k++) pause_ms(10);
  if (!done) {
    kill(pid, SIGKILL);
    for (int k = 0; k < 1000 && !(done = waitpid(pid, &status, WNOHANG)); k++) pause_ms(10);
    printf("%s ", done ? "(killed)" : "(hangs)");
  }
  if (!done) printf("%s hangs\n", attack->name);
  else if (WIFSIGNALED(status)) printf("%s signal %d\n", attack->name, WTERMSIG(status));
  else printf("%s exit %d\n", attack->name, WEXITSTATUS(status));
  fflush(stdout);
  check_worker();
}

int main(int argc, char **argv) {
  if (pipe(worker_in) || pipe(worker_out)) return 68;
  if (!fork_apart()) worker();
  check_worker();
  for (int k = 1; k < argc; k++) {
    const struct attack *found = 0;
    for (const struct attack *a = attacks; a->name; a++)
      if (!strcmp(a->name, argv[k])) found = a;
    if (!found) {
      printf("no attack named %s\n", argv[k]);
      return 68;
    }
    run(found);
  }
  printf("all is well\n");
  fflush(stdout);
  char c;
  while (read(0, &c, 1) > 0) ; /* stays, so that the test can see how idle the Sentry is */
  return 0;
}

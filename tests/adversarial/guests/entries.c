/* Every other way into a kernel, hostile signal frames, and the platform's own ranges through ordinary system calls. */
#include "hostile.h"

static sigjmp_buf out;
static void caught(int signo) { siglongjmp(out, signo); }
static void catch_all(void) {
  static char stack[65536];
  stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&ss, 0);
  struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK | SA_NODEFER};
  int signals[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGTRAP, SIGSYS};
  for (unsigned k = 0; k < 6; k++) sigaction(signals[k], &action, 0);
}
#define TRY(code) do { catch_all(); if (!sigsetjmp(out, 1)) { code; } } while (0)

static long int80(long nr, long a, long b, long c) {
  long result = nr;
  __asm__ volatile("int $0x80" : "+a"(result) : "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
  return (int)result;
}
static void int80_calls(void) {
  TRY({
    for (int nr = 0; nr < 460; nr++)
      if (nr != 1 && int80(nr, 1, 1, 1) != -ENOSYS) gained("int 0x80");
    if (int80(1, 0, 0, 0) != -ENOSYS) gained("exit by int 0x80");
  });
}
static void x32_calls(void) {
  for (long nr = 0; nr < 560; nr++)
    if (trap(0x40000000 | nr, 1, 1, 1, 1, 1, 1) != -ENOSYS) gained("an x32 call");
}
static void odd_numbers(void) {
  long odd[] = {-1, 470, 511, 512, 1000, 0x7fffffff, 0x80000000, 0xffffffffL, 1L << 40, 0x40000000 | 520};
  for (unsigned k = 0; k < sizeof odd / sizeof *odd; k++)
    if (odd[k] != (int)odd[k] && (int)odd[k] >= 0) continue; /* the processor's high bits are not looked at */
    else if (trap(odd[k], 1, 1, 1, 1, 1, 1) != -ENOSYS) gained("an odd number");
}
static void past_every_filter(void) { /* uretprobe and uprobe: the host answers these itself, with SIGILL or an error */
  TRY(trap(335, 1, 1, 1, 1, 1, 1));
  TRY(trap(336, 1, 1, 1, 1, 1, 1));
}
static void vsyscall(void) {
  for (long at = 0; at < 0x1000; at += 0x400)
    TRY(((long (*)(long, long))(0xffffffffff600000 + at))(0, 0));
  TRY(((long (*)(long, long))0xffffffffff600123)(0, 0));
}
static void sysenter(void) { TRY(__asm__ volatile("mov %%rsp, %%rbp; mov $20, %%eax; sysenter" ::: "rax", "memory")); }

/* 32-bit code below 4 GB, reached by a far return: int 0x80, syscall, sysenter there, and back. */
static void far32(const char *code, int length) {
  unsigned char *page = mmap((void *)0x20000000, 8192, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  u64 save;
  if (page != (void *)0x20000000) _exit(3);
  memcpy(page, code, length);
  unsigned char back[] = {0xea, 0, 0x08, 0, 0x20, 0x33, 0}; /* ljmp $0x33, $0x20000800 */
  memcpy(page + length, back, 7);
  page[0x800] = 0xff, page[0x801] = 0xe3; /* jmp *%rbx */
  TRY(__asm__ volatile("mov %%rsp, %0; lea 1f(%%rip), %%rbx; mov $0x20001800, %%esp; mov $20, %%eax;"
                       "pushq $0x23; pushq $0x20000000; lretq; 1: mov %0, %%rsp"
                       : "=&r"(save) : : "rax", "rbx", "rcx", "rdx", "r11", "memory"));
}
static void far_int80(void) { far32("\xcd\x80", 2); }
static void far_syscall(void) { far32("\x0f\x05", 2); }
static void far_sysenter(void) { far32("\x89\xe5\x0f\x34", 4); }

/* --- signal frames --- */
static ucontext_t model;
static void keep(int signo, siginfo_t *info, void *uc) { memcpy(&model, uc, sizeof model); }
static void get_model(void) {
  struct sigaction action = {.sa_sigaction = keep, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, 0);
  raise(SIGUSR1);
  model.uc_mcontext.fpregs = 0; /* it lay on the stack that the handler had */
}
static void with_frame(u64 ip, const ucontext_t *uc) { /* rt_sigreturn by way of `ip` (0: one's own instruction) */
  static char stack[65536] __attribute__((aligned(64)));
  memcpy(stack + 32768, uc, sizeof *uc);
  __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; test %1, %1; jz 1f; jmp *%1; 1: syscall; ud2" ::"D"(stack + 32768),
                   "S"(ip ? ip - 2 : 0));
}
static void each_frame(u64 ip) {
  for (int k = 0; k < 26; k++) {
    int pid = fork_apart(), status, done = 0;
    if (!pid) {
      get_model();
      ucontext_t uc = model;
      greg_t *g = uc.uc_mcontext.gregs;
      static char fp[4096] __attribute__((aligned(64)));
      for (int n = 0; n < 4096; n++) fp[n] = (char)(n * 37 + k);
      if (k == 0) g[REG_CSGSFS] = 0;
      if (k == 1) g[REG_CSGSFS] = 0x10 | 0x18L << 48;
      if (k == 2) g[REG_CSGSFS] = 0xffff | 0xffffL << 48;
      if (k == 3) g[REG_CSGSFS] = 0x23 | 0x2bL << 48;
      if (k == 4) g[REG_RIP] = 0x8000000000000000;
      if (k == 5) g[REG_RIP] = 0xffffffff81000000;
      if (k == 6) g[REG_RIP] = STUB_BASE + 3;
      if (k == 7) g[REG_RSP] = 0x8000000000000000;
      if (k == 8) g[REG_RSP] = 0;
      if (k == 9) uc.uc_mcontext.fpregs = (void *)8;
      if (k == 10) uc.uc_mcontext.fpregs = (void *)0x8000000000000000;
      if (k == 11) uc.uc_mcontext.fpregs = (void *)fp;
      if (k == 12) uc.uc_mcontext.fpregs = (void *)STUB_BASE;
      if (k == 13) uc.uc_mcontext.fpregs = (void *)(slot_address() + SLOT_SIZE - 8);
      if (k == 14) g[REG_EFL] = ~0L;
      if (k == 15) g[REG_EFL] |= 0x100; /* single step */
      if (k == 16) g[REG_EFL] |= 0x4000 | 0x3000 | 0x20000 | 0x40000;
      if (k == 17) uc.uc_flags = ~0ul;
      if (k == 18) memset(&uc.uc_stack, 0xff, sizeof uc.uc_stack);
      if (k == 19) memset(&uc.uc_sigmask, 0xff, sizeof uc.uc_sigmask);
      if (k == 20) uc.uc_stack.ss_sp = (void *)slot_address(), uc.uc_stack.ss_size = SLOT_SIZE;
      if (k == 21) memset(&uc, 0xff, sizeof uc);
      if (k == 22) memset(&uc, 0, sizeof uc);
      if (k == 23 || k == 24) { /* the software words of an extended image: a wild size, a wild mask */
        memset(fp, 0, sizeof fp);
        *(u32 *)(fp + 464) = 0x46505853;
        *(u32 *)(fp + 468) = k == 23 ? 0xffffffff : 2700;
        *(u64 *)(fp + 472) = ~0ul;
        *(u32 *)(fp + 480) = k == 23 ? 0xffffffff : 2696;
        *(u32 *)(fp + 24) = ~0u; /* mxcsr */
        uc.uc_mcontext.fpregs = (void *)fp;
      }
      if (k == 25) g[REG_RIP] = IP_op_ip - 2, g[REG_RAX] = SYS_mremap, g[REG_RDI] = STUB_BASE;
      with_frame(ip, &uc);
    }
    for (int n = 0; n < 60 && !(done = waitpid(pid, &status, WNOHANG)); n++) pause_ms(1);
    if (!done) kill(pid, SIGKILL);
    for (int n = 0; !done && n < 5000 && !(done = waitpid(pid, &status, WNOHANG)); n++) pause_ms(1);
    if (!done) gained("a process that cannot be killed");
  }
}
static void frames(void) { each_frame(0); }
static void frames_of_the_stub(void) { each_frame(IP_sigreturn_ip); }

static void blocked_spin(void) { /* every host signal blocked by a frame of one's own, then nothing but computing */
  get_model();
  ucontext_t uc = model;
  memset(&uc.uc_sigmask, 0xff, sizeof uc.uc_sigmask);
  uc.uc_mcontext.gregs[REG_RIP] = (greg_t)&burn;
  uc.uc_mcontext.gregs[REG_RDI] = (greg_t)(1ul << 62);
  with_frame(IP_sigreturn_ip, &uc);
}
static void lost_stack(void) { /* the host's signal stack in memory of one's own: events come where nobody looks */
  static char stack[SLOT_SIZE * 2] __attribute__((aligned(SLOT_SIZE)));
  get_model();
  ucontext_t uc = model;
  uc.uc_stack.ss_sp = stack;
  uc.uc_stack.ss_size = SLOT_SIZE;
  uc.uc_stack.ss_flags = 0;
  memset(&uc.uc_sigmask, 0, sizeof uc.uc_sigmask);
  with_frame(IP_sigreturn_ip, &uc);
}
static void altstack_on_slot(void) {
  stack_t ss = {.ss_sp = (void *)(slot_address() + STACK), .ss_size = SLOT_SIZE - STACK};
  sigaltstack(&ss, 0);
  struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, 0);
  raise(SIGUSR1);
}
static void stack_nowhere(void) { /* a signal while the stack pointer is 0: a frame below address 0 */
  struct sigaction action = {.sa_handler = caught};
  sigaction(SIGUSR1, &action, 0);
  long pid = getpid();
  __asm__ volatile("xor %%esp, %%esp; mov $62, %%eax; mov $10, %%esi; syscall; 1: jmp 1b" ::"D"(pid) : "memory");
}

/* --- ordinary system calls against the platform's ranges --- */
static void must_fail(const char *what, long result) {
  if (result >= 0 || result < -4095) gained(what);
}
static void ranges(void) {
  u64 vdso = 0, vvar = 0;
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps)) {
    if (strstr(line, "arena") || strstr(line, "stub")) gained("sight of the stub in maps");
    if (strstr(line, "[vdso]")) vdso = strtoul(line, 0, 16);
    if (strstr(line, "[vvar")) vvar = strtoul(line, 0, 16);
    if (!strncmp(line, "7e000", 5)) gained("sight of the stub's range in maps");
  }
  u64 at[] = {STUB_BASE, STUB_BASE + GLOBAL, STUB_BASE + HEADER, slot_address(), STUB_END - 4096, vdso, vvar};
  for (unsigned k = 0; k < sizeof at / sizeof *at; k++) {
    if (!at[k]) continue;
    u64 a = at[k] & ~4095ul;
    long anon = MAP_PRIVATE | MAP_ANONYMOUS;
    must_fail("munmap", trap(SYS_munmap, a, 4096, 0, 0, 0, 0));
    must_fail("munmap round it", trap(SYS_munmap, a - 4096, 3 * 4096, 0, 0, 0, 0));
    must_fail("mprotect", trap(SYS_mprotect, a, 4096, 7, 0, 0, 0));
    must_fail("mprotect none", trap(SYS_mprotect, a, 4096, 0, 0, 0, 0));
    must_fail("pkey_mprotect", trap(SYS_pkey_mprotect, a, 4096, 7, -1, 0, 0));
    must_fail("mmap fixed", trap(SYS_mmap, a, 4096, 3, anon | MAP_FIXED, -1, 0));
    must_fail("mmap fixed, larger", trap(SYS_mmap, a - 8192, 16384, 3, anon | MAP_FIXED, -1, 0));
    must_fail("mmap noreplace", trap(SYS_mmap, a, 4096, 3, anon | MAP_FIXED_NOREPLACE, -1, 0));
    must_fail("mremap away", trap(SYS_mremap, a, 4096, 4096, 3, 0x10000000000, 0));
    must_fail("mremap grow", trap(SYS_mremap, a, 4096, 8192, 1, 0, 0));
    must_fail("mremap old 0", trap(SYS_mremap, a, 0, 4096, 1, 0, 0));
    char *mine = mmap(0, 4096, 3, anon, -1, 0);
    must_fail("mremap onto", trap(SYS_mremap, (long)mine, 4096, 4096, 3, a, 0));
    must_fail("madvise remove", trap(SYS_madvise, a, 4096, 9, 0, 0, 0));
    must_fail("madvise dontneed", trap(SYS_madvise, a, 4096, 4, 0, 0, 0));
    must_fail("madvise dontfork", trap(SYS_madvise, a, 4096, 10, 0, 0, 0));
    must_fail("madvise wipeonfork", trap(SYS_madvise, a, 4096, 18, 0, 0, 0));
    must_fail("remap_file_pages", trap(SYS_remap_file_pages, a, 4096, 0, 1, 0, 0));
    long hint = trap(SYS_mmap, a, 4096, 3, anon, -1, 0);
    if (hint >= (long)STUB_BASE && hint < (long)STUB_END) gained("a mapping by hint");
    if (k < 2) { /* text, global page */
      int fd = open("/dev/zero", O_RDONLY);
      must_fail("read into it", trap(SYS_read, fd, a + 64, 64, 0, 0, 0));
      struct iovec local = {mine, 64}, remote = {(void *)(a + 64), 64};
      must_fail("process_vm_writev", trap(SYS_process_vm_writev, getpid(), (long)&local, 1, (long)&remote, 1, 0));
      int mem = open("/proc/self/mem", O_RDWR);
      if (mem >= 0) must_fail("/proc/self/mem", trap(SYS_pwrite64, mem, (long)mine, 64, a + 64, 0, 0));
    }
  }
  must_fail("a mapping that large", trap(SYS_mmap, 0x10000, 0x7fffffff0000, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0));
  must_fail("munmap of everything", trap(SYS_munmap, 0, 0x7ffffffff000, 0, 0, 0, 0));
}

/* --- what one can see --- */
static int find(const char *what, u64 from, u64 length) {
  return memmem((void *)from, length, what, strlen(what)) != 0;
}
static void own_region_only(void) {
  u64 slots = STUB_BASE + SLOTS, length = (u64)SLOT_SIZE * SLOTS_PER_REGION;
  char canary[40] = {0};
  for (int k = 0; k < 100; k++) {
    snprintf(canary, sizeof canary, "canary-of-%d-", getpid());
    memcpy((void *)(slots + 99 * SLOT_SIZE + 256), canary, sizeof canary);
    int in[2];
    pipe(in);
    int pid = fork_apart(), status;
    if (!pid) {
      for (u64 at = slots; at < slots + length; at += SLOT_SIZE) /* one's own holds one's registers: the parent's, copied */
        if (at != slot_address() && find("canary-of-", at, SLOT_SIZE)) gained("another's slots");
      u64 used = 0;
      for (u64 at = slots; at < slots + length; at += SLOT_SIZE)
        if (at != slot_address())
          for (u64 n = 0; n < SLOT_SIZE; n += 8) used |= *(volatile u64 *)(at + n);
      if (used) gained("something in slots that are nobody's");
      for (int n = 0; n < 3000; n++) ((volatile char *)slots)[(99 * SLOT_SIZE) + n] = 'x';
      trap(SYS_exit_group, 0, 0, 0, 0, 0, 0);
    }
    waitpid(pid, &status, 0);
    if (status) _exit(1);
    if (memcmp((void *)(slots + 99 * SLOT_SIZE + 256), canary, strlen(canary))) gained("the parent's slots");
  }
}
static void nothing_else_mapped(void) { /* between and behind what layout.py names */
  u64 holes[] = {STUB_BASE - 4096, STUB_BASE + 0x8000, STUB_BASE + GLOBAL - 4096, STUB_BASE + HEADER - 4096,
                 STUB_BASE + SLOTS + (u64)SLOT_SIZE * SLOTS_PER_REGION, STUB_END - 4096, STUB_END};
  for (unsigned k = 0; k < sizeof holes / sizeof *holes; k++)
    if (readable((void *)holes[k])) gained("memory that nobody gave");
}

#define A(n) {#n, n}
const struct attack attacks[] = {
    A(int80_calls), A(x32_calls), A(odd_numbers), A(past_every_filter), A(vsyscall), A(sysenter), A(far_int80), A(far_syscall),
    A(far_sysenter), A(frames), A(frames_of_the_stub), A(blocked_spin), A(lost_stack), A(altstack_on_slot),
    A(stack_nowhere), A(ranges), A(own_region_only), A(nothing_else_mapped), {0, 0}};

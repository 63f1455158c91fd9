/* Jumps to the system-call instructions of the stub with registers of the attacker's choice. */
#include "hostile.h"

#define TARGET 0x10000000000L
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)

static void op_mmap(void) {
  jump(IP_op_ip, 0, SYS_mmap, TARGET, 4096, 3, ANON, -1, 0); /* its own memory: allowed, and nobody's loss */
  *(volatile char *)TARGET = 1;
  jump(IP_op_ip, 0, SYS_munmap, TARGET, 4096, 0, 0, 0, 0);
}
static void op_mmap_stub(void) { jump(IP_op_ip, 0, SYS_mmap, STUB_BASE, 4096, 7, ANON, -1, 0); }
static void op_mmap_header(void) { jump(IP_op_ip, 0, SYS_mmap, STUB_BASE + HEADER, 4096, 3, ANON, -1, 0); }
static void op_mmap_across(void) {
  jump(IP_op_ip, 0, SYS_mmap, 0x7d0000000000, 0x20000000000, 0, ANON | MAP_NORESERVE, -1, 0);
}
static void op_munmap_across(void) { jump(IP_op_ip, 0, SYS_munmap, 0x7d0000000000, 0x20000000000, 0, 0, 0, 0); }
static void op_munmap_all(void) { jump(IP_op_ip, 0, SYS_munmap, 0x1000, 0x7ffffffff000, 0, 0, 0, 0); }
static void op_munmap_end(void) { jump(IP_op_ip, 0, SYS_munmap, STUB_BASE - 4096, 8192, 0, 0, 0, 0); }
static u64 vdso(void) { return getauxval(AT_SYSINFO_EHDR); }
static void op_mmap_vdso(void) { jump(IP_op_ip, 0, SYS_mmap, vdso(), 4096, 7, ANON, -1, 0); }
static void op_munmap_vdso(void) { jump(IP_op_ip, 0, SYS_munmap, vdso() - 4096, 1 << 20, 0, 0, 0, 0); }
static void op_protect_vdso(void) { jump(IP_op_ip, 0, SYS_mprotect, vdso(), 4096, 0, 0, 0, 0); }
static void op_mmap_anywhere(void) { jump(IP_op_ip, 0, SYS_mmap, TARGET, 4096, 3, ANON & ~MAP_FIXED, -1, 0); }
static void op_mmap_grows(void) { jump(IP_op_ip, 0, SYS_mmap, STUB_END + (2L << 32), 4096, 3, ANON | MAP_GROWSDOWN, -1, 0); }
static void op_mmap_shared(void) { jump(IP_op_ip, 0, SYS_mmap, TARGET, 4096, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0); }
static void recycle(void) { jump(IP_recycle_ip, 0, SYS_mmap, 0, 0, 0, 0, 0, 0); }
static void recycled(void) { jump(IP_recycled_ip, 0, SYS_mmap, 0, 0, 0, 0, 0, 0); }
static void wipe_other_range(void) { jump(IP_wipe_middle_ip, 0, SYS_munmap, STUB_BASE, STUB_END - STUB_BASE, 0, 0, 0, 0); }
static void recycle_doorbell(void) { jump(IP_recycle_close_ip, 0, SYS_close, DOORBELL_FD, 0, 0, 0, 0, 0); }
static void op_protect_read(void) { jump(IP_op_ip, 0, SYS_mprotect, STUB_BASE, 4096, 1, 0, 0, 0); }
static void op_protect_write(void) { jump(IP_op_ip, 0, SYS_mprotect, (long)&op_mmap & -4096, 4096, 7, 0, 0, 0); }
static void op_remove(void) { jump(IP_op_ip, 0, SYS_madvise, STUB_BASE + SLOTS, SLOT_SIZE, 9, 0, 0, 0); }
static void op_file(void) {
  int fd = open("/proc/self/exe", O_RDONLY);
  jump(IP_op_ip, 0, SYS_mmap, TARGET, 4096, 1, MAP_PRIVATE | MAP_FIXED, DONATED_FD, 0);
  if (readable((void *)TARGET)) gained("a file");
}
/* A file that was mapped stays handed in until the next call, whatever that is. */
static int mapped_file(void) {
  int fd = open("/proc/self/exe", O_RDONLY);
  if (mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED) _exit(3);
  return fd;
}
static void take_files(const char *after) {
  for (int number = DONATED_FD; number < DONATED_FD + 4; number++)
    jump(IP_op_ip, 0, SYS_mmap, TARGET, 4096, 1, MAP_PRIVATE | MAP_FIXED, number, 0);
  if (readable((void *)TARGET)) gained(after);
}
static void op_file_closed(void) {
  int fd = mapped_file();
  trap(SYS_close, fd, 0, 0, 0, 0, 0);
  take_files("a closed file");
}
static void op_file_refused(void) {
  int fd = mapped_file();
  trap(SYS_mmap, 0, 4096, 1, MAP_PRIVATE, fd, 1);
  take_files("a file after a mapping that failed");
}
static void op_file_anonymous(void) {
  mapped_file();
  trap(SYS_mmap, 0, 4096, 1, ANON & ~MAP_FIXED, -1, 0);
  take_files("a file after another mapping");
}
static void op_file_faulted(void) {
  mapped_file();
  readable((void *)8);
  take_files("a file after a fault");
}
static void op_file_forked(void) {
  mapped_file();
  long child = trap(SYS_fork, 0, 0, 0, 0, 0, 0);
  take_files(child ? "a file after fork" : "its parent's file");
  if (!child) _exit(0);
}
static void op_file_shared(void) { jump(IP_op_ip, 0, SYS_mmap, TARGET, 4096, 1, MAP_SHARED | MAP_FIXED, DONATED_FD, 0); }
static void op_file_on_stub(void) { jump(IP_op_ip, 0, SYS_mmap, STUB_BASE, 4096, 5, MAP_PRIVATE | MAP_FIXED, DONATED_FD, 0); }
static void op_file_arena(void) { jump(IP_op_ip, 0, SYS_mmap, TARGET, 4096, 1, MAP_PRIVATE | MAP_FIXED, ARENA_FD, 0); }
static void op_hand_in(void) { jump(IP_op_ip, 0, SYS_mmap, 0, 0, 0, MAP_PRIVATE, -1, 0); }
static void op_munmap(void) { jump(IP_op_ip, 0, SYS_munmap, STUB_BASE + SLOTS, SLOT_SIZE, 0, 0, 0, 0); }
static void op_mprotect(void) { jump(IP_op_ip, 0, SYS_mprotect, STUB_BASE, 4096, 7, 0, 0, 0); }
static void op_mremap(void) { jump(IP_op_ip, 0, SYS_mremap, STUB_BASE, 4096, 4096, 3, TARGET, 0); }
static void op_madvise(void) { jump(IP_op_ip, 0, SYS_madvise, STUB_BASE, 4096, 4, 0, 0, 0); }
static void op_arena(void) {
  jump(IP_op_ip, 0, SYS_mmap, TARGET, 0x400000, 3, MAP_SHARED | MAP_FIXED, ARENA_FD, 0);
  if (readable((void *)TARGET)) gained("the arena");
}
static void op_write(void) { jump(IP_op_ip, 0, SYS_write, 1, (long)"GAINED write\n", 13, 0, 0, 0); }
static void op_execve(void) { jump(IP_op_ip, 0, SYS_execve, (long)"/bin/true", 0, 0, 0, 0, 0); }
static void op_openat(void) { jump(IP_op_ip, 0, SYS_openat, -100, (long)"/etc/passwd", 0, 0, 0, 0); }
static void op_x32(void) { jump(IP_op_ip, 0, 0x40000000 | SYS_mmap, TARGET, 4096, 7, ANON, -1, 0); }
static void op_high_bits(void) { jump(IP_op_ip, 0, 1L << 32 | SYS_mmap, TARGET, 4096, 7, ANON, -1, 0); }

static void clone_fork(void) {
  long pid = jump(IP_clone_ip, 1, SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
  if (pid >= 0) gained("fork");
}
static void clone_thread(void) {
  static char stack[65536];
  long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  if (jump(IP_clone_ip, 1, SYS_clone, flags, (long)stack + 60000, 0, 0, 0, 0) >= 0) gained("thread");
}
static void clone_untrace(void) { jump(IP_clone_ip, 1, SYS_clone, 0x10000000 | SIGCHLD, 0, 0, 0, 0, 0); }
static void clone_clone3(void) { jump(IP_clone_ip, 1, 435, 0, 88, 0, 0, 0, 0); }

static void child_region(void) {
  jump(IP_child_region_ip, 0, SYS_mmap, STUB_BASE + HEADER, REGION_SIZE, 3, 0x11, ARENA_FD, REGION_SIZE * 2L);
}
static void child_region_elsewhere(void) { jump(IP_child_region_ip, 0, SYS_mmap, TARGET, 4096, 3, 0x11, ARENA_FD, 0); }
static void child_region_own(void) {
  jump(IP_child_region_ip, 0, SYS_mmap, STUB_BASE + HEADER, REGION_SIZE, 3, 0x11, ARENA_FD, REGION_SIZE);
}
static void hello(void) { jump(IP_hello_ip, 0, SYS_mmap, slot_address(), REGION_SIZE, 0, 0, -1, 0); }
static void hello_thread(void) { jump(IP_hello_ip, 0, SYS_mmap, slot_address(), 2L << 32, 0, 0, -1, 0); }

static void futex_wake(void) { u32 w = 0; jump(IP_futex_ip, 0, SYS_futex, (long)&w, 1, 1, 0, 0, 0); }
static void futex_requeue(void) { u32 w = 0; jump(IP_futex_ip, 0, SYS_futex, (long)&w, 3, 1, 1, (long)&w, 0); }
static void futex_lock_pi(void) { u32 w = 0; jump(IP_futex_ip, 0, SYS_futex, (long)&w, 6, 0, 0, 0, 0); }
static void futex_private(void) { u32 w = 0; jump(IP_futex_ip, 0, SYS_futex, (long)&w, 128, 1, 0, 0, 0); }
static void futex_other_call(void) { jump(IP_futex_ip, 0, SYS_read, 0, 0, 0, 0, 0, 0); }
static void futex_wait_wrong_value(void) {
  u32 w = 0;
  if (jump(IP_futex_ip, 0, SYS_futex, (long)&w, 0, 1, 0, 0, 0) != -EAGAIN) _exit(1);
}
static void futex_wait_for_ever(void) { u32 w = 0; jump(IP_futex_ip, 0, SYS_futex, (long)&w, 0, 0, 0, 0, 0); }

static void wait_wake(void) { u32 w = 0; jump(IP_ring_wait_ip, 0, SYS_futex, (long)&w, 1, 1, 0, 0, 0); }
static void wait_private(void) { u32 w = 0; jump(IP_ring_wait_ip, 0, SYS_futex, (long)&w, 128, 1, 0, 0, 0); }
static void wait_other_call(void) { jump(IP_ring_wait_ip, 0, SYS_restart_syscall, 0, 0, 0, 0, 0, 0); }
static void wait_for_ever(void) { u32 w = 0; jump(IP_ring_wait_ip, 0, SYS_futex, (long)&w, 0, 0, 0, 0, 0); }

static void ring_other_fd(void) { jump(IP_ring_ip, 0, SYS_write, 1, (long)"GAINED it", 8, 0, 0, 0); }
static void ring_arena(void) { jump(IP_ring_ip, 0, SYS_write, ARENA_FD, (long)"GAINED it", 8, 0, 0, 0); }
static void ring_longer(void) { char b[16] = {1}; jump(IP_ring_ip, 0, SYS_write, DOORBELL_FD, (long)b, 16, 0, 0, 0); }
static void ring_pwrite(void) { char b[16] = {1}; jump(IP_ring_ip, 0, SYS_pwrite64, DOORBELL_FD, (long)b, 8, 0, 0, 0); }
static void ring_full(void) {
  u64 most = 0xfffffffffffffffe;
  for (int k = 0; k < 1000; k++) jump(IP_ring_ip, 0, SYS_write, DOORBELL_FD, (long)&most, 8, 0, 0, 0);
  for (int k = 0; k < 20; k++) { /* the Sentry rings it itself when a process ends */
    int pid = fork_apart();
    if (!pid) _exit(0);
    jump(IP_ring_ip, 0, SYS_write, DOORBELL_FD, (long)&most, 8, 0, 0, 0);
    waitpid(pid, 0, 0);
  }
}

static void close_doorbell(void) { jump(IP_close_ip, 0, SYS_close, DOORBELL_FD, 0, 0, 0, 0, 0); }
static void close_arena(void) { jump(IP_close_ip, 0, SYS_close, 7L << 32 | ARENA_FD, 0, 0, 0, 0, 0); }
static void close_files(void) {
  for (int k = DONATED_FD; k < 1024; k++) jump(IP_close_ip, 0, SYS_close, k, 0, 0, 0, 0, 0);
}
static void map_stub(void) { jump(IP_map_ip, 0, SYS_mmap, STUB_BASE, 4096, 3, ANON, -1, 0); }
static void map_other_call(void) { jump(IP_map_ip, 0, SYS_munmap, TARGET, 4096, 0, 0, 0, 0); }
static void map_shared_arena(void) { jump(IP_map_ip, 0, SYS_mmap, TARGET, 4096, 3, MAP_SHARED | MAP_FIXED, ARENA_FD, 0); }
static void unmap_there(void) { jump(IP_unmap_ip, 0, SYS_munmap, STUB_BASE, 4096, 0, 0, 0, 0); }
static void unmap_other_call(void) { jump(IP_map_undo_ip, 0, SYS_mprotect, TARGET, 4096, 7, 0, 0, 0); }
static void advise_stub(void) { jump(IP_advise_ip, 0, SYS_madvise, STUB_BASE + SLOTS, SLOT_SIZE, 4, 0, 0, 0); }
static void advise_remove(void) { jump(IP_advise_ip, 0, SYS_madvise, TARGET, 4096, 9, 0, 0, 0); }
static void advise_other_call(void) { jump(IP_advise_ip, 0, SYS_munmap, TARGET, 4096, 0, 0, 0, 0); }
/* Ways out of the local calls: to where the slot says, which is the stack that leads back. */
__asm__(".text\nlead_back: ret");
extern char lead_back[];
static void give(u64 at, u64 size) {
  u64 slot = slot_address();
  SLOT64(slot, RETURN) = (u64)lead_back;
  SLOT64(slot, ARGS) = at;
  SLOT64(slot, ARGS + 16) = size;
  jump(IP_give_ip, 0, SYS_mprotect, at, size, 3, 0, 0, 0);
}
static void keep_other_call(void) { jump(IP_keep_ip, 0, SYS_munmap, TARGET, 4096, 0, 0, 0, 0); }
static void keep_write(void) { jump(IP_keep_ip, 0, SYS_mprotect, (long)&op_mmap & -4096, 4096, 7, 0, 0, 0); }
static void keep_stub(void) { jump(IP_keep_ip, 0, SYS_mprotect, STUB_BASE + SLOTS, SLOT_SIZE, 0, 0, 0, 0); }
static void give_stub(void) { jump(IP_give_ip, 0, SYS_mprotect, STUB_BASE, 4096, 3, 0, 0, 0); }
static void give_window(void) { jump(IP_give_ip, 0, SYS_mprotect, FILE_WINDOWS, 4096, 3, 0, 0, 0); }
static void give_elsewhere(void) { jump(IP_give_ip, 0, SYS_mprotect, (long)&op_mmap & -4096, 4096, 3, 0, 0, 0); }
static void give_below(void) { jump(IP_give_ip, 0, SYS_mprotect, FILE_WINDOWS_END - 4096, 8192, 3, 0, 0, 0); }
static void give_vdso(void) { jump(IP_give_ip, 0, SYS_mprotect, vdso(), 4096, 3, 0, 0, 0); }
static void give_long(void) { jump(IP_give_ip, 0, SYS_mprotect, FILE_WINDOWS_END, MAP_KEPT_MAX + 1, 3, 0, 0, 0); }
static void give_longer(void) { jump(IP_give_ip, 0, SYS_mprotect, FILE_WINDOWS_END, 1L << 32, 3, 0, 0, 0); }
static void give_execution(void) { jump(IP_give_ip, 0, SYS_mprotect, FILE_WINDOWS_END, 4096, 7, 0, 0, 0); }
static void give_other_call(void) { jump(IP_give_ip, 0, SYS_munmap, FILE_WINDOWS_END, 4096, 3, 0, 0, 0); }
static void give_nothing(void) { give(FILE_WINDOWS_END, 4096); } /* nothing is there */

/* Files that may only be read, however they are mapped: a write stays the guest's own. */
static void change(int fd, volatile char *p, long size, const char *what) {
  if (p == MAP_FAILED) { dprintf(1, "no %s\n", what); _exit(5); }
  give((u64)p, size);
  if (writable(p)) p[0] = 1;
  char now = 2;
  pread(fd, &now, 1, 0);
  if (now) gained(what);
}
static void give_file(void) {
  static const char name[] = "/tmp/give_file";
  long size = 8192;
  for (int k = 0; k < 2; k++) {
    int fd = k ? memfd_create("sealed", MFD_ALLOW_SEALING) : open(name, O_RDWR | O_CREAT, 0600);
    ftruncate(fd, size);
    if (k) fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
    else close(fd), fd = open(name, O_RDONLY);
    char *p = mmap(0, size, PROT_READ, MAP_SHARED, fd, 0);
    change(fd, p, size, "a shared file");
    p = mmap(0, size, PROT_READ, MAP_SHARED, fd, 0);
    if (!mprotect(p, size, 3)) gained("leave to write");
    change(fd, mremap(p, 0, size, MREMAP_MAYMOVE), size, "its copy");
    change(fd, mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, p - (1L << 30)), size, "one that was moved");
    p = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
    change(fd, mremap(p, 4096, size, MREMAP_MAYMOVE), size, "one that grew");
    change(fd, mmap(0, size, PROT_READ, MAP_PRIVATE, fd, 0), size, "a private copy");
    close(fd);
  }
  unlink(name);
}
static void close_other_call(void) { jump(IP_close_ip, 0, SYS_dup, DOORBELL_FD, 0, 0, 0, 0, 0); }

static void exit_alone(void) { jump(IP_exit_ip, 0, SYS_exit, 0, 0, 0, 0, 0, 0); }
static void exit_group_there(void) { jump(IP_exit_ip, 0, SYS_exit_group, 0, 0, 0, 0, 0, 0); }
static void *leave(void *p) { jump(IP_exit_ip, 0, SYS_exit, 0, 0, 0, 0, 0, 0); return p; }
static void exit_thread(void) {
  pthread_t t;
  pthread_create(&t, 0, leave, 0);
  pause_ms(50);
  for (int k = 0; k < 10; k++) trap(SYS_getppid, 0, 0, 0, 0, 0, 0);
}
static void *stay(void *p) { for (;;) __builtin_ia32_pause(); return p; }
static void exit_leader(void) { /* the others go on computing: only SIGKILL can end them */
  pthread_t t;
  pthread_create(&t, 0, stay, 0);
  pause_ms(20);
  jump(IP_exit_ip, 0, SYS_exit, 0, 0, 0, 0, 0, 0);
}

static void setup_call(void) { jump(IP_setup_ip, 0, SYS_openat, -100, (long)"/", 0, 0, 0, 0); }
static void setup_prctl(void) { jump(IP_setup_ip, 0, SYS_prctl, 1, 9, 0, 0, 0, 0); }
static void take_frame(void) { jump(IP_take_frame_ip, 0, SYS_getppid, 0, 0, 0, 0, 0, 0); }
static void sigreturn_other_call(void) { jump(IP_sigreturn_ip, 0, SYS_write, 1, (long)"GAINED\n", 7, 0, 0, 0); }
static void every_byte(void) { /* of the text, as an entry: whatever it decodes to */
  for (long at = 0; at < IP_text_end - STUB_BASE; at++) {
    int pid = fork_apart();
    if (!pid) {
      static char stack[8192];
      struct timespec t = {0, 0};
      (void)t;
      __asm__ volatile("mov %0, %%rsp; mov $9, %%eax; mov $60, %%edi; xor %%esi, %%esi; jmp *%1" ::"r"(stack + 8000),
                       "r"(STUB_BASE + at));
    }
    for (int k = 0; k < 20 && !waitpid(pid, 0, WNOHANG); k++) pause_ms(1);
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
    at += 12; /* a prime step, to stay within the time */
  }
}

/* A slot of one's own making in one's own memory: the stub carries out what stands in it, the Sentry knows nothing of it. */
static char fake[2 * SLOT_SIZE] __attribute__((aligned(SLOT_SIZE)));
static void *answer(void *p) {
  u64 slot = (u64)fake;
  while (SLOT32(slot, STATE) != READY) ;
  u64 op[] = {SYS_mprotect, STUB_BASE, 4096, 7, 0, 0, 0};
  memcpy(fake + OPS, op, sizeof op);
  SLOT32(slot, OP_COUNT) = 1;
  SLOT32(slot, COMMAND) = COMMAND_OPS;
  SLOT32(slot, STATE) = RESUME;
  return p;
}
static void fake_slot(void) {
  pthread_t t;
  pthread_create(&t, 0, answer, 0);
  SLOT64((u64)fake, SELF) = (u64)fake;
  __asm__ volatile("wrgsbase %0" ::"r"(fake));
  __asm__ volatile("lea 1f(%%rip), %%rcx; jmp *%0; 1:" ::"r"((u64)IP_fast_entry), "a"(39) : "rcx", "r11", "memory");
  *(volatile char *)STUB_BASE = 0;
  gained("the stub's text");
}

#define A(n) {#n, n}
const struct attack attacks[] = {
    A(op_mmap), A(op_mmap_stub), A(op_mmap_header), A(op_mmap_across), A(op_munmap_across),
    A(op_mmap_vdso), A(op_munmap_vdso), A(op_protect_vdso), A(op_mmap_anywhere), A(op_mmap_grows), A(op_mmap_shared), A(recycle), A(recycled), A(wipe_other_range), A(recycle_doorbell), A(op_munmap_all), A(op_munmap_end), A(op_protect_read), A(op_protect_write), A(op_remove), A(op_file), A(op_file_closed), A(op_file_refused), A(op_file_anonymous), A(op_file_faulted), A(op_file_forked), A(op_file_shared), A(op_file_on_stub), A(op_file_arena), A(op_hand_in), A(op_munmap), A(op_mprotect), A(op_mremap), A(op_madvise), A(op_arena), A(op_write), A(op_execve),
    A(op_openat), A(op_x32), A(op_high_bits), A(clone_fork), A(clone_thread), A(clone_untrace), A(clone_clone3),
    A(child_region), A(child_region_elsewhere), A(child_region_own), A(hello), A(hello_thread), A(futex_wake),
    A(futex_requeue), A(futex_lock_pi), A(futex_private), A(futex_other_call), A(futex_wait_wrong_value),
    A(futex_wait_for_ever), A(wait_wake), A(wait_private), A(wait_other_call), A(wait_for_ever), A(ring_other_fd), A(ring_arena), A(ring_longer), A(ring_pwrite), A(ring_full),
    A(close_doorbell), A(close_arena), A(close_files), A(close_other_call), A(map_stub), A(map_other_call), A(map_shared_arena), A(unmap_there),
    A(unmap_other_call), A(advise_stub), A(advise_remove), A(advise_other_call),
    A(keep_other_call), A(keep_write), A(keep_stub), A(give_stub), A(give_window), A(give_elsewhere), A(give_below),
    A(give_vdso), A(give_long), A(give_longer), A(give_execution), A(give_other_call), A(give_nothing), A(give_file),
    A(exit_alone), A(exit_group_there),
    A(exit_thread), A(exit_leader), A(setup_call), A(setup_prctl), A(take_frame), A(sigreturn_other_call),
    {"every_byte", every_byte, 100}, A(fake_slot), {0, 0}};

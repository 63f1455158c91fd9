"""cffi build of `platforms._host`: the host calls that Python's standard library lacks. No logic lives here.

Every function returns the call's result, or -errno. `setup.py` builds it; platforms and services import
`platforms._host`.
"""

from __future__ import annotations

from cffi import FFI

__all__ = ["ffibuilder"]

CDEF = """
long sentrio_syscall(long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d, unsigned long e,
                     unsigned long f);
long sentrio_vm_read(int pid, unsigned long remote, void *local, unsigned long length);
long sentrio_vm_write(int pid, unsigned long remote, const void *local, unsigned long length);
long sentrio_vm_scatter(int pid, const void *iovecs, unsigned long count, const void *local, unsigned long length);
long sentrio_futex_wake(void *word);
unsigned long sentrio_exchange(void *word, unsigned long value);
long sentrio_ioctl(int fd, unsigned long request, void *argument);
long sentrio_poll(void *fds, unsigned long count, long timeout_ns);
long sentrio_tgkill(int tgid, int tid, int signo);
long sentrio_enter(unsigned long flags, unsigned long entry, unsigned long a, unsigned long b);
unsigned long sentrio_rseq_area(void);
unsigned long sentrio_rseq_length(void);
unsigned long sentrio_thread_time(int tid, int whole_process);
int sentrio_processor(void);
unsigned long sentrio_ticks(void);
"""

SOURCE = """
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long checked(long result) { return result < 0 ? -errno : result; }

static long sentrio_syscall(long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d,
                            unsigned long e, unsigned long f) {
  return checked(syscall(nr, a, b, c, d, e, f));
}
static long sentrio_vm_read(int pid, unsigned long remote, void *local, unsigned long length) {
  struct iovec l = {local, length}, r = {(void *)remote, length};
  return checked(process_vm_readv(pid, &l, 1, &r, 1, 0));
}
static long sentrio_vm_write(int pid, unsigned long remote, const void *local, unsigned long length) {
  struct iovec l = {(void *)local, length}, r = {(void *)remote, length};
  return checked(process_vm_writev(pid, &l, 1, &r, 1, 0));
}
static long sentrio_vm_scatter(int pid, const void *iovecs, unsigned long count, const void *local,
                               unsigned long length) {
  struct iovec l = {(void *)local, length};
  return checked(process_vm_writev(pid, &l, 1, iovecs, count, 0));
}
static long sentrio_futex_wake(void *word) { return checked(syscall(SYS_futex, word, 1, 1, 0, 0, 0)); }
static unsigned long sentrio_exchange(void *word, unsigned long value) {
  return __atomic_exchange_n((unsigned long *)word, value, __ATOMIC_SEQ_CST);
}
static long sentrio_ioctl(int fd, unsigned long request, void *argument) {
  return checked(ioctl(fd, request, argument));
}
static long sentrio_poll(void *fds, unsigned long count, long timeout_ns) {
  struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  return checked(ppoll(fds, count, timeout_ns < 0 ? 0 : &t, 0));
}
static long sentrio_tgkill(int tgid, int tid, int signo) { return checked(syscall(SYS_tgkill, tgid, tid, signo)); }

/* clone(2) without a stack; the child calls entry(a, b) and never returns. */
static long sentrio_enter(unsigned long flags, unsigned long entry, unsigned long a, unsigned long b) {
  long pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
  if (pid == 0) {
    ((void (*)(unsigned long, unsigned long))entry)(a, b);
    __builtin_trap();
  }
  return checked(pid);
}

/* The C library's restartable-sequence registration of this thread (glibc 2.35 and newer). */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
static unsigned long sentrio_rseq_area(void) {
  if (!&__rseq_size || !__rseq_size) return 0;
  return (unsigned long)__builtin_thread_pointer() + __rseq_offset;
}
static unsigned long sentrio_rseq_length(void) { return !&__rseq_size || !__rseq_size ? 0 : 32; }

/* The processor's counter, which guests' stubs note too. */
static unsigned long sentrio_ticks(void) { return __builtin_ia32_rdtsc(); }

/* CPU time in ns of a host thread, or of the whole process it belongs to. 0 when it is gone. */
static unsigned long sentrio_thread_time(int tid, int whole_process) {
  struct timespec t;
  clockid_t clock = (~(unsigned)tid << 3) | (whole_process ? 2 : 6);
  if (clock_gettime(clock, &t)) return 0;
  return t.tv_sec * 1000000000ul + t.tv_nsec;
}

/* On which processor we run. No system call where there is a vDSO. */
static int sentrio_processor(void) { return sched_getcpu(); }
"""

ffibuilder = FFI()
ffibuilder.cdef(CDEF)
ffibuilder.set_source("platforms._host", SOURCE, extra_compile_args=["-O2"])

if __name__ == "__main__":
    ffibuilder.compile(verbose=False)

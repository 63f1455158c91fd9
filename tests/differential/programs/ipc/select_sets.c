// select(2) and pselect(2) by raw calls: sets near each other and far apart, missing, unreadable, read-only; which fault
// or wrong argument is told first; what is written back.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void show(const char *what, long got, const unsigned long *r, const unsigned long *w, const unsigned long *e) {
  printf("%s: %ld%s%s", what, got, got < 0 ? " " : "", got < 0 ? strerrorname_np(errno) : "");
  if (r) printf(" r=%lx", *r);
  if (w) printf(" w=%lx", *w);
  if (e) printf(" e=%lx", *e);
  printf("\n");
}
struct pair { const sigset_t *mask; size_t size; };
static long pselect6(int n, void *r, void *w, void *e, void *t, void *s) {
  return syscall(SYS_pselect6, n, r, w, e, t, s);
}

int main(void) {
  int p[2];
  if (pipe(p)) return 1;
  unsigned long in = 1ul << p[0], out = 1ul << p[1];
  struct { unsigned long r, w, e; } near;
  char *pages = mmap(0, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(pages + 4096, 4096);
  unsigned long *one = (void *)(pages + 4096 - 8), *two = (void *)(pages + 2 * 4096), *ro = (void *)(pages + 4 * 4096);
  struct timespec none = {0, 0}, wrong = {0, 2000000000}, some = {5, 0};

  near.r = in, near.w = out, near.e = in | out;
  show("near", pselect6(10, &near.r, &near.w, &near.e, &none, 0), &near.r, &near.w, &near.e);
  near.r = in;
  show("nothing", pselect6(10, &near.r, 0, 0, &none, 0), &near.r, 0, 0);
  *one = in, *two = out;
  show("hole between", pselect6(10, one, two, 0, &none, 0), one, two, 0);
  *one = in, near.w = out;
  show("far apart", pselect6(10, one, &near.w, 0, &none, 0), one, &near.w, 0);
  show("no sets", pselect6(10, 0, 0, 0, &none, 0), 0, 0, 0);
  show("no bits", pselect6(0, one, two, 0, &none, 0), one, two, 0);
  if (write(p[1], "x", 1) != 1) return 1;
  near.r = in, near.w = out;
  show("ready", pselect6(10, &near.r, &near.w, 0, &some, 0), &near.r, &near.w, 0);
  printf("time left: %s\n", some.tv_sec == 4 || some.tv_sec == 5 ? "most" : "other");
  near.r = in, near.w = in;
  show("same set twice", pselect6(10, &near.r, &near.r, 0, &none, 0), &near.r, 0, 0);

  show("negative", pselect6(-1, &near.r, 0, 0, &none, 0), 0, 0, 0);
  show("bad set", pselect6(10, (void *)8, 0, 0, &none, 0), 0, 0, 0);
  show("bad set in a hole", pselect6(10, pages + 4096, 0, 0, &none, 0), 0, 0, 0);
  show("wrong time", pselect6(10, &near.r, 0, 0, &wrong, 0), 0, 0, 0);
  show("wrong time, bad set", pselect6(10, (void *)8, 0, 0, &wrong, 0), 0, 0, 0);
  show("wrong time, negative", pselect6(-1, 0, 0, 0, &wrong, 0), 0, 0, 0);
  show("bad time, negative", pselect6(-1, 0, 0, 0, (void *)8, 0), 0, 0, 0);
  show("bad mask, wrong time", pselect6(10, 0, 0, 0, &wrong, (void *)8), 0, 0, 0);
  sigset_t mask;
  sigemptyset(&mask);
  struct pair odd = {&mask, 5}, good = {&mask, 8}, null = {0, 8};
  show("odd mask, bad set", pselect6(10, (void *)8, 0, 0, &none, &odd), 0, 0, 0);
  show("odd mask, wrong time", pselect6(10, 0, 0, 0, &wrong, &odd), 0, 0, 0);
  near.r = in;
  show("mask", pselect6(10, &near.r, 0, 0, &none, &good), &near.r, 0, 0);
  near.r = in;
  show("mask of nothing", pselect6(10, &near.r, 0, 0, &none, &null), &near.r, 0, 0);
  near.r = 1ul << 9;
  show("closed", pselect6(10, &near.r, 0, 0, &none, 0), &near.r, 0, 0);

  *ro = in;
  mprotect(ro, 4096, PROT_READ);
  show("read-only set", pselect6(10, ro, 0, 0, &none, 0), ro, 0, 0);
  near.w = out;
  show("read-only set first", pselect6(10, ro, &near.w, 0, &none, 0), ro, &near.w, 0);
  near.r = in;
  show("read-only set second", pselect6(10, &near.r, ro, 0, &none, 0), &near.r, ro, 0);

  struct timeval tv = {0, 0}, odd_tv = {1, 2000000}, negative = {-1, 0};
  near.r = in;
  show("select", syscall(SYS_select, 10, &near.r, 0, 0, &tv), &near.r, 0, 0);
  near.r = in;
  show("select, microseconds beyond a second", syscall(SYS_select, 10, &near.r, 0, 0, &odd_tv), &near.r, 0, 0);
  show("select, negative time", syscall(SYS_select, 10, &near.r, 0, 0, &negative), 0, 0, 0);
  return 0;
}

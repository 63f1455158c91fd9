// Calls that end with a change of the address space: what they return when the change is refused, and what holds after.
#include "../check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PAGE 4096L

static void line(const char *what, long result) { printf("%s %s\n", what, result == -1 ? strerror(errno) : "done"); }

static volatile int alarms;
static void on_alarm(int s) { (void)s; alarms++; }

static void *churn(void *a) {
  for (int k = 0; k < 400; k++) {
    char *p = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 1 + (int)(long)a, 4 * PAGE);
    mprotect(p, PAGE, PROT_READ);
    for (int n = 0; n < 4 * PAGE; n += 512)
      if (p[n] != 1 + (int)(long)a) return (void *)1;
    munmap(p, 4 * PAGE);
  }
  return 0;
}

int main(void) {
  char *p = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 'x', 8 * PAGE);
  line("munmap in the middle", munmap(p + 2 * PAGE, PAGE));
  line("mprotect over the hole", mprotect(p, 8 * PAGE, PROT_READ));
  line("msync over the hole", msync(p, 8 * PAGE, MS_ASYNC));
  line("mprotect of a part", mprotect(p, 2 * PAGE, PROT_READ));
  line("read into read-only", read(open("/dev/zero", O_RDONLY), p, 8));
  line("mprotect back", mprotect(p, 2 * PAGE, PROT_READ | PROT_WRITE));
  line("read again", read(open("/dev/zero", O_RDONLY), p, 8));
  line("munmap again", munmap(p, 8 * PAGE));
  line("read after munmap", read(open("/dev/zero", O_RDONLY), p, 8));

  int fd = open("file", O_RDWR | O_CREAT, 0600);
  (void)!write(fd, "hello", 5);
  char *f = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  printf("%.5s\n", f);
  line("write to the private file", mprotect(f, PAGE, PROT_READ | PROT_WRITE));
  f[0] = 'j';
  printf("%.5s\n", f);
  fd = open("file", O_RDONLY);
  char *s = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
  line("write to a shared read-only file", mprotect(s, PAGE, PROT_READ | PROT_WRITE));
  printf("%.5s\n", s);

  void *before = sbrk(0);
  line("brk", brk((char *)before + 64 * PAGE) ? -1 : 0);
  memset(before, 1, 64 * PAGE);
  line("brk back", brk(before));
  struct rlimit limit;
  getrlimit(RLIMIT_DATA, &limit);
  struct rlimit small = {1 << 20, limit.rlim_max};
  setrlimit(RLIMIT_DATA, &small);
  line("brk beyond the limit", brk((char *)before + (64L << 20)) ? -1 : 0);
  line("mmap beyond the limit", mmap(0, 64L << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
  setrlimit(RLIMIT_DATA, &limit);

  signal(SIGALRM, on_alarm); // signals while such calls are under way are neither lost nor late
  struct { long s, us, s2, us2; } it = {0, 2000, 0, 2000};
  setitimer(ITIMER_REAL, (void *)&it, 0);
  long rounds = 0;
  while (alarms < 20 && rounds < 2000000) {
    char *q = mmap(0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(q, PAGE);
    rounds++;
  }
  printf("alarms %s\n", alarms >= 20 ? "came" : "did not come");
  it.us = it.us2 = 0;
  setitimer(ITIMER_REAL, (void *)&it, 0);

  pthread_t t[4];
  long wrong = 0;
  for (long k = 0; k < 4; k++) pthread_create(&t[k], 0, churn, (void *)k);
  for (int k = 0; k < 4; k++) {
    void *r;
    pthread_join(t[k], &r);
    wrong += (long)r;
  }
  printf("wrong %ld\n", wrong);

  pid_t child = fork();
  if (!child) { // killed in the middle of it
    for (;;) munmap(mmap(0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
  }
  usleep(30000);
  kill(child, SIGKILL);
  int st;
  waitpid(child, &st, 0);
  printf("killed %d\n", WTERMSIG(st));
  return 0;
}

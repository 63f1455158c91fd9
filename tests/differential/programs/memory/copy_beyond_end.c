// Small results for a page that is mapped but not there (a private mapping beyond the end of its file): EFAULT each time,
// also once the call site is well known, and what lies before the hole stays usable.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROUNDS = 300 };

int main(void) {
  int file = open("short", O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (file < 0 || ftruncate(file, 4096)) return 1;
  char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  if (pages == MAP_FAILED) return 1;
  int ends[2], failed[5] = {0}, done[5] = {0};
  if (pipe(ends)) return 1;
  struct stat *there = (struct stat *)(pages + 512), *beyond = (struct stat *)(pages + 4096);
  for (int i = 0; i < ROUNDS; i++) {
    failed[0] += fstat(file, beyond) == -1 && errno == EFAULT;
    done[0] += fstat(file, there) == 0 && there->st_size == 4096;
    failed[1] += stat("short", beyond) == -1 && errno == EFAULT;
    done[1] += stat("short", there) == 0 && there->st_size == 4096;
    if (write(ends[1], "x", 1) != 1) return 1;
    failed[2] += read(ends[0], pages + 5000, 1) == -1 && errno == EFAULT;
    pages[100] = 0;
    ssize_t got = read(ends[0], pages + 100, 1);
    done[2] += (got == 1 && pages[100] == 'x');
    failed[3] += syscall(SYS_getcwd, pages + 4096, 4096L) == -1 && errno == EFAULT;
    done[3] += syscall(SYS_getcwd, pages, 4096L) > 0 && pages[0] == '/';
    failed[4] += fstat(file, (struct stat *)(pages + 4096 - 64)) == -1 && errno == EFAULT;
    done[4] += lseek(file, 0, SEEK_CUR) == 0;
  }
  const char *names[] = {"fstat", "stat", "read", "getcwd", "fstat across"};
  for (int k = 0; k < 5; k++) printf("%s: %d failed, %d done\n", names[k], failed[k], done[k]);
  return 0;
}

/* Looks for what was not given: argv[1] is a canary word, the others are paths that lead to a host file that holds it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;
static const char *word;

static void look(const char *path, const char *how) {
  static char buffer[1 << 16];
  int fd = open(path, O_RDONLY), n;
  if (fd < 0) return;
  n = read(fd, buffer, sizeof buffer - 1);
  close(fd);
  if (n > 0 && memmem(buffer, n, word, strlen(word)) && !memmem(buffer, n, "probe", 5)) printf("SEEN %s by %s\n", path, how);
}

int main(int argc, char **argv) {
  word = argv[1];
  for (int k = 2; k < argc; k++) {
    char path[4096];
    look(argv[k], "its name");
    snprintf(path, sizeof path, "/../../../../../..%s", argv[k]);
    look(path, "dots");
    snprintf(path, sizeof path, "/proc/self/root/../..%s", argv[k]);
    look(path, "/proc/self/root");
    snprintf(path, sizeof path, "/proc/1/root%s", argv[k]);
    look(path, "/proc/1/root");
    snprintf(path, sizeof path, "/proc/self/cwd/../../..%s", argv[k]);
    look(path, "/proc/self/cwd");
  }
  DIR *d = opendir("/proc");
  struct dirent *e;
  int processes = 0;
  while (d && (e = readdir(d)))
    if (e->d_name[0] >= '0' && e->d_name[0] <= '9') {
      char path[300];
      processes++;
      snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
      look(path, "/proc");
      snprintf(path, sizeof path, "/proc/%s/environ", e->d_name);
      look(path, "/proc");
    }
  for (int pid = 1; pid < 5000; pid++) { /* hidden ones */
    char path[300];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    look(path, "a guessed number");
  }
  for (int fd = 3; fd < 1024; fd++) {
    char path[300];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fcntl(fd, F_GETFD) >= 0 && fd != (d ? dirfd(d) : -1)) printf("SEEN descriptor %d\n", fd);
  }
  for (char **v = environ; *v; v++)
    if (strstr(*v, word)) printf("SEEN %s in the environment\n", *v);
  printf("looked: %d processes, pid %d\n", processes, getpid());
  return 0;
}

// getdents64(2): every entry once, types, small buffers, rewinding, a directory that changes.
#include "../check.h"
#include <dirent.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        printf("%s: %s\n", path, error_name(errno));
        return;
    }
    char *names[64];
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char line[300];
        int type = e->d_type == DT_DIR ? 'd' : e->d_type == DT_REG ? 'f' : e->d_type == DT_LNK ? 'l' : e->d_type == DT_FIFO ? 'p' : '?';
        snprintf(line, sizeof line, "%c %s", type, e->d_name);
        names[n++] = strdup(line);
    }
    qsort(names, n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) printf("  %s\n", names[i]);
    closedir(dir);
}

int main(void) {
    NEED(mkdir("d", 0755));
    list("d");
    put_file("d/file", "");
    NEED(mkdir("d/sub", 0755));
    NEED(symlink("file", "d/link"));
    NEED(mkfifo("d/fifo", 0600));
    list("d");
    list("d/file");
    list("none");
    char data[4096];
    int fd = NEED(open("d", O_RDONLY));
    SAY(syscall(SYS_getdents64, fd, data, 1));
    SAY(syscall(SYS_getdents64, fd, data, 10));
    int total = 0, calls = 0;
    for (long n; (n = syscall(SYS_getdents64, fd, data, 40)) > 0; calls++)
        for (long at = 0; at < n; total++) at += *(unsigned short *)(data + at + 16);
    printf("total %d, several calls %d\n", total, calls > 2);
    SAY(syscall(SYS_getdents64, fd, data, sizeof data));
    SAY(lseek(fd, 0, SEEK_SET));
    IS(syscall(SYS_getdents64, fd, data, sizeof data) > 100);
    int f = NEED(open("d/file", O_RDONLY));
    SAY(syscall(SYS_getdents64, f, data, sizeof data));
    SAY(syscall(SYS_getdents64, 99, data, sizeof data));
    NEED(lseek(fd, 0, SEEK_SET));
    SAY(syscall(SYS_getdents64, fd, (void *)8, sizeof data));
    NEED(unlink("d/file"));
    NEED(unlink("d/fifo"));
    list("d");
    return 0;
}

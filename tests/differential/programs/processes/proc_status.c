// /proc/self/status, stat and task: the lines programs read.
#include "../check.h"
#include <dirent.h>

static void *idle(void *x) {
    for (;;) pause();
    return x;
}

static void line(const char *key) {
    FILE *f = fopen("/proc/self/status", "r");
    for (char text[512]; fgets(text, sizeof text, f);)
        if (strncmp(text, key, strlen(key)) == 0) printf("%s", text);
    fclose(f);
}

int main(void) {
    prctl(PR_SET_NAME, "a b) c");
    line("Name:");
    line("State:");
    line("Uid:");
    line("Gid:");
    line("Threads:");
    line("SigIgn:");
    pthread_t t;
    pthread_create(&t, NULL, idle, NULL);
    line("Threads:");
    char text[1024] = "";
    int fd = NEED(open("/proc/self/stat", O_RDONLY));
    NEED(read(fd, text, sizeof text - 1));
    int pid, ppid, pgrp;
    char state;
    IS(sscanf(text, "%d (a b) c) %c %d %d", &pid, &state, &ppid, &pgrp) == 4);
    IS(pid == getpid() && ppid == getppid() && pgrp == getpgrp());
    DIR *dir = opendir("/proc/self/task");
    int count = 0;
    for (struct dirent *e; (e = readdir(dir));) count += e->d_name[0] != '.';
    printf("tasks %d\n", count);
    char target[64] = "";
    IS(readlink("/proc/self", target, sizeof target) > 0 && atoi(target) == getpid());
    SAY(access("/proc/self/root/etc", F_OK));
    SAY(access("/proc/1073741824", F_OK));
    OK(open("/proc/self/status", O_RDWR | O_TRUNC));
    OK(open("/proc/newfile", O_CREAT | O_WRONLY, 0600));
    SAY(mkdir("/proc/newdir", 0700));
    return 0;
}

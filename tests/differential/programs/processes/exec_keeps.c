// What execve keeps and what it drops: pid, cwd, umask, ignored signals, masks, descriptors, handlers, alarms.
#include "../check.h"

static void on(int signo) {}

int main(int argc, char **argv) {
    if (argc == 1) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", getpid());
        NEED(mkdir("d", 0700));
        NEED(chdir("d"));
        umask(031);
        signal(SIGUSR1, on);
        signal(SIGUSR2, SIG_IGN);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGHUP);
        NEED(dup2(1, 30));
        NEED(dup2(1, 31));
        NEED(fcntl(31, F_SETFD, FD_CLOEXEC));
        alarm(100);
        struct rlimit limit = {55, 60};
        NEED(setrlimit(RLIMIT_NOFILE, &limit));
        setenv("KEPT", "value", 1);
        prctl(PR_SET_NAME, "renamed");
        execl("/proc/self/exe", "second", pid, "", "third argument", NULL);
        return 1;
    }
    printf("argc %d [%s] [%s] [%s] same pid %d\n", argc, argv[0], argv[2], argv[3], atoi(argv[1]) == getpid());
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    IS(action.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, NULL, &action);
    IS(action.sa_handler == SIG_IGN);
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    IS(sigismember(&set, SIGHUP));
    sigpending(&set);
    IS(sigismember(&set, SIGHUP));
    SAY(fcntl(30, F_GETFD));
    SAY(fcntl(31, F_GETFD));
    IS(alarm(0) > 90);
    printf("umask %o\n", umask(0));
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("%ld %ld %s\n", (long)limit.rlim_cur, (long)limit.rlim_max, getenv("KEPT"));
    char cwd[PATH_MAX], name[32] = "";
    IS(strcmp(strrchr(getcwd(cwd, sizeof cwd), '/'), "/d") == 0);
    prctl(PR_GET_NAME, name);
    printf("name is that of the file %d\n", strcmp(name, "renamed") != 0);
    return 0;
}

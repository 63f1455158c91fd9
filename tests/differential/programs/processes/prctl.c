// prctl(2): names, dumpable, no_new_privs, keepcaps, timer slack, unknown options.
#include "../check.h"

int main(void) {
    char name[17] = "";
    SAY(prctl(PR_SET_NAME, "a name of more than fifteen"));
    SAY(prctl(PR_GET_NAME, name));
    printf("[%s]\n", name);
    show_file("/proc/self/comm");
    put_file("comm", "");
    int fd = NEED(open("/proc/self/comm", O_WRONLY));
    SAY(write(fd, "written", 7));
    SAY(prctl(PR_GET_NAME, name));
    printf("[%s]\n", name);
    SAY(prctl(PR_GET_DUMPABLE));
    SAY(prctl(PR_SET_DUMPABLE, 0));
    SAY(prctl(PR_GET_DUMPABLE));
    SAY(prctl(PR_SET_DUMPABLE, 5));
    SAY(prctl(PR_SET_DUMPABLE, 1));
    SAY(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SAY(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SAY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SAY(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SAY(prctl(PR_GET_KEEPCAPS));
    SAY(prctl(PR_SET_KEEPCAPS, 1));
    SAY(prctl(PR_GET_KEEPCAPS));
    SAY(prctl(PR_SET_KEEPCAPS, 2));
    SAY(prctl(PR_SET_TIMERSLACK, 12345));
    SAY(prctl(PR_GET_TIMERSLACK));
    SAY(prctl(PR_SET_TIMERSLACK, 1UL << 63));
    IS(syscall(SYS_prctl, PR_GET_TIMERSLACK) == 1L << 63);
    const char *slacks[] = {"18446744073709551615", "18446744073709551616", "18446744073709551000", "-1", "+7\n",
                            "1_0", " 7", "0x10", "0", "00000000000000000000000000012", ""};
    for (int k = 0; k < (int)(sizeof slacks / sizeof *slacks); k++) {
        fd = NEED(open("/proc/self/timerslack_ns", O_WRONLY));
        SAY(write(fd, slacks[k], strlen(slacks[k])));
        show_file("/proc/self/timerslack_ns");
        SAY(syscall(SYS_prctl, PR_GET_TIMERSLACK));
        close(fd);
    }
    SAY(prctl(999999));
    SAY(prctl(PR_GET_SECCOMP));
    IN_CHILD("child", { prctl(PR_GET_NAME, name); printf("[%s]\n", name); SAY(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); });
    return 0;
}

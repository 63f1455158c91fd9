// A set-user-id program run by an ordinary user: effective and saved ids, AT_SECURE, no_new_privs.
#include "../check.h"
#include <sys/auxv.h>

int main(int argc, char **argv) {
    if (argc > 1) {
        uid_t r, e, s;
        gid_t rg, eg, sg;
        getresuid(&r, &e, &s);
        getresgid(&rg, &eg, &sg);
        printf("%s: %d %d %d, %d %d %d, secure %lu\n", argv[1], r, e, s, rg, eg, sg, getauxval(AT_SECURE));
        return 0;
    }
    NEED(chmod(".", 0777));
    static char copy[1 << 20];
    int in = NEED(open("/proc/self/exe", O_RDONLY)), out = NEED(open("program", O_CREAT | O_WRONLY, 0755));
    NEED(write(out, copy, NEED(read(in, copy, sizeof copy))));
    close(out);
    NEED(chown("program", 77, 88));
    NEED(chmod("program", 04755));
    IN_CHILD("plain", execl("./program", "x", "root runs it", NULL));
    IN_CHILD("user", { NEED(setresgid(5, 5, 5)); NEED(setresuid(5, 5, 5)); execl("./program", "x", "user runs it", NULL); });
    IN_CHILD("no new privileges", {
        NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        NEED(setresgid(5, 5, 5));
        NEED(setresuid(5, 5, 5));
        execl("./program", "x", "no new privileges", NULL);
    });
    NEED(chmod("program", 06755));
    IN_CHILD("group too", { NEED(setresgid(5, 5, 5)); NEED(setresuid(5, 5, 5)); execl("./program", "x", "group too", NULL); });
    return 0;
}

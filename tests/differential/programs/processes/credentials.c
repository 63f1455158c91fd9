// Credentials: setuid, seteuid, setresuid, setgroups; what an ordinary user may change.
#include "../check.h"
#include <grp.h>
#include <sys/fsuid.h>

static void show(void) {
    uid_t r, e, s;
    gid_t rg, eg, sg;
    getresuid(&r, &e, &s);
    getresgid(&rg, &eg, &sg);
    printf("  uid %d %d %d gid %d %d %d\n", r, e, s, rg, eg, sg);
}

int main(void) {
    show();
    SAY(seteuid(1000));
    show();
    SAY(setuid(2000));
    SAY(seteuid(0));
    show();
    SAY(setresuid(-1, 1000, 2000));
    show();
    SAY(setreuid(1000, -1));
    show();
    SAY(setresuid(0, 0, 0));
    SAY(seteuid(2000));
    show();
    SAY(setuid(0));
    IN_CHILD("child", show());
    IN_CHILD("fresh", { SAY(setresuid(5, 6, 7)); show(); SAY(setfsuid(-1)); SAY(setresuid(7, 5, 6)); show(); SAY(setresuid(8, -1, -1)); });
    return 0;
}

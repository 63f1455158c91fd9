// setgroups, getgroups: counts, limits, who may.
#include "../check.h"
#include <grp.h>

int main(void) {
    gid_t groups[] = {30, 10, 20}, got[8];
    SAY(setgroups(3, groups));
    SAY(getgroups(0, NULL));
    SAY(getgroups(8, got));
    long sum = got[0] + got[1] + got[2];
    printf("sum %ld\n", sum);
    SAY(getgroups(2, got));
    SAY(getgroups(-1, got));
    SAY(getgroups(8, (void *)8));
    SAY(setgroups(65537, groups));
    SAY(setgroups(0, NULL));
    SAY(getgroups(8, got));
    NEED(setgroups(1, groups));
    NEED(setresgid(100, 100, 100));
    NEED(setresuid(100, 100, 100));
    SAY(setgroups(0, NULL));
    SAY(setgid(30));
    SAY(setgid(100));
    SAY(getgroups(8, got));
    return 0;
}

// uname, sethostname in a new UTS namespace, getpid family consistency.
#include "../check.h"
#include <sys/utsname.h>

int main(void) {
    struct utsname u;
    SAY(uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    IS(atoi(u.release) >= 5);
    SAY(uname((void *)8));
    IN_CHILD("namespace", {
        SAY(unshare(CLONE_NEWUTS));
        SAY(sethostname("inside", 6));
        char name[64];
        SAY(gethostname(name, sizeof name));
        printf("%s\n", name);
        SAY(sethostname("x", 65));
        SAY(setdomainname("domain", 6));
        NEED(uname(&u));
        printf("%s\n", u.domainname);
    });
    struct utsname after;
    NEED(uname(&after));
    IS(strcmp(after.nodename, u.nodename) == 0);
    IS(getppid() != getpid());
    IN_CHILD("user", { NEED(setresuid(5, 5, 5)); SAY(sethostname("no", 2)); });
    return 0;
}

// uname, sethostname with bad lengths and without the right, getpid family consistency.
#include "../check.h"
#include <sys/utsname.h>

int main(void) {
    struct utsname u;
    SAY(uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    IS(atoi(u.release) >= 5);
    SAY(uname((void *)8));
    SAY(sethostname("x", 65));
    struct utsname after;
    NEED(uname(&after));
    IS(strcmp(after.nodename, u.nodename) == 0);
    IS(getppid() != getpid());
    IN_CHILD("user", { NEED(setresuid(5, 5, 5)); SAY(sethostname("no", 2)); });
    return 0;
}

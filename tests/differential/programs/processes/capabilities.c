// Capabilities: dropped on leaving root, kept by keepcaps, bounding set, ambient.
#include "../check.h"
#include <linux/capability.h>

static void show(const char *what) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    NEED(syscall(SYS_capget, &header, data));
    printf("%s: CHOWN effective %d permitted %d\n", what, data[0].effective & 1, data[0].permitted & 1);
}

int main(void) {
    show("root");
    struct __user_cap_header_struct header = {0, 0};
    SAY(syscall(SYS_capget, &header, NULL));
    IS(header.version == _LINUX_CAPABILITY_VERSION_3);
    header.pid = 1 << 29;
    struct __user_cap_data_struct data[2];
    SAY(syscall(SYS_capget, &header, data));
    IN_CHILD("leaves root", { NEED(setresuid(9, 9, 9)); show("user"); });
    IN_CHILD("effective only", { NEED(seteuid(9)); show("euid user"); NEED(seteuid(0)); show("euid root"); });
    IN_CHILD("keeps", { NEED(prctl(PR_SET_KEEPCAPS, 1)); NEED(setresuid(9, 9, 9)); show("kept"); });
    IN_CHILD("drops", {
        header.version = _LINUX_CAPABILITY_VERSION_3;
        header.pid = 0;
        NEED(syscall(SYS_capget, &header, data));
        data[0].effective &= ~1u;
        SAY(syscall(SYS_capset, &header, data));
        show("dropped effective");
        put_file("f", "");
        SAY(chown("f", 5, 5));
        data[0].effective |= 1;
        SAY(syscall(SYS_capset, &header, data));
        SAY(chown("f", 5, 5));
        data[0].permitted &= ~1u;
        data[0].effective &= ~1u;
        SAY(syscall(SYS_capset, &header, data));
        data[0].permitted |= 1;
        SAY(syscall(SYS_capset, &header, data));
    });
    SAY(prctl(PR_CAPBSET_READ, CAP_CHOWN));
    SAY(prctl(PR_CAPBSET_READ, 63));
    IN_CHILD("bounding", { SAY(prctl(PR_CAPBSET_DROP, CAP_CHOWN)); SAY(prctl(PR_CAPBSET_READ, CAP_CHOWN)); });
    SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
    SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    return 0;
}

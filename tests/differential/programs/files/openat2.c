// openat2(2): RESOLVE_* and argument checks.
#include "../check.h"
#include <linux/openat2.h>

static long try(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    errno = 0;
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

int main(void) {
    NEED(mkdir("d", 0755));
    put_file("outside", "x");
    put_file("d/f", "x");
    NEED(symlink("../outside", "d/up"));
    NEED(symlink("/etc", "d/abs"));
    NEED(symlink("f", "d/near"));
    int d = NEED(open("d", O_RDONLY));
    OK(try(d, "f", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(try(d, "near", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(try(d, "up", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(try(d, "../outside", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(try(d, "/etc", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(try(d, "abs", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(try(d, "../f", O_RDONLY, 0, RESOLVE_IN_ROOT));
    OK(try(d, "/f", O_RDONLY, 0, RESOLVE_IN_ROOT));
    OK(try(d, "abs", O_RDONLY, 0, RESOLVE_IN_ROOT));
    OK(try(d, "near", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    OK(try(d, "f", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    OK(try(d, "f", O_RDONLY, 0600, 0));
    OK(try(d, "f", O_RDONLY, 0, 0x1000));
    OK(try(d, "f", 1UL << 40, 0, 0));
    OK(try(d, "new", O_RDWR | O_CREAT, 0600, RESOLVE_BENEATH));
    OK(try(d, "new2", O_RDWR | O_CREAT, 010000, 0));
    struct { struct open_how how; uint64_t more; } longer = {{.flags = O_RDONLY}, 0};
    OK(syscall(SYS_openat2, d, "f", &longer, sizeof longer));
    longer.more = 1;
    OK(syscall(SYS_openat2, d, "f", &longer, sizeof longer));
    OK(syscall(SYS_openat2, d, "f", &longer, 8));
    return 0;
}

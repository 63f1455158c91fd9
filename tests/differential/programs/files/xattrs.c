// Extended attributes of the user namespace: set, get, list, remove, sizes, errors.
#include "../check.h"
#include <sys/xattr.h>

int main(void) {
    char data[256];
    put_file("a", "");
    SAY(getxattr("a", "user.one", data, sizeof data));
    SAY(setxattr("a", "user.one", "1234", 4, 0));
    SAY(getxattr("a", "user.one", data, sizeof data));
    SAY(getxattr("a", "user.one", NULL, 0));
    SAY(getxattr("a", "user.one", data, 2));
    SAY(setxattr("a", "user.one", "x", 1, XATTR_CREATE));
    SAY(setxattr("a", "user.two", "x", 1, XATTR_REPLACE));
    SAY(setxattr("a", "user.one", "five5", 5, XATTR_REPLACE));
    SAY(setxattr("a", "user.empty", NULL, 0, 0));
    SAY(getxattr("a", "user.empty", data, sizeof data));
    ssize_t n = SAY(listxattr("a", data, sizeof data));
    int one = 0, empty = 0;
    for (char *p = data; p < data + n; p += strlen(p) + 1) {
        one += strcmp(p, "user.one") == 0;
        empty += strcmp(p, "user.empty") == 0;
    }
    printf("one %d empty %d\n", one, empty);
    SAY(listxattr("a", data, 3));
    SAY(listxattr("a", NULL, 0));
    SAY(removexattr("a", "user.one"));
    SAY(removexattr("a", "user.one"));
    SAY(setxattr("a", "bogus.x", "1", 1, 0));
    SAY(setxattr("a", "user.", "1", 1, 0));
    SAY(setxattr("a", "", "1", 1, 0));
    SAY(setxattr("a", "user.x", "1", 1, 7));
    SAY(setxattr("a", "user.x", (void *)8, 1, 0));
    SAY(setxattr("a", "user.x", "1", 65537, 0));
    SAY(getxattr("none", "user.x", data, 1));
    SAY(symlink("a", "s"));
    SAY(lsetxattr("s", "user.x", "1", 1, 0));
    SAY(setxattr("s", "user.x", "1", 1, 0));
    SAY(getxattr("a", "user.x", data, 8));
    int fd = NEED(open("a", O_RDONLY));
    SAY(fsetxattr(fd, "user.fd", "1", 1, 0));
    SAY(fgetxattr(fd, "user.fd", data, 8));
    SAY(fremovexattr(fd, "user.fd"));
    SAY(fgetxattr(fd, "user.fd", data, 8));
    SAY(flistxattr(99, data, 8));
    return 0;
}

// Set-id bits: cleared by chown and by writes of an ordinary user, kept for root; set-gid directories hand on the group.
#include "../check.h"

static void mode(const char *path) {
    struct stat st;
    NEED(lstat(path, &st));
    printf("%s %o %d %d\n", path, st.st_mode & 07777, st.st_uid, st.st_gid);
}

int main(void) {
    NEED(chmod(".", 0777));
    put_file("a", "x");
    SAY(chmod("a", 06755));
    mode("a");
    SAY(chown("a", 1000, 1000));
    mode("a");
    SAY(chmod("a", 06755));
    SAY(truncate("a", 0));
    mode("a");
    NEED(chmod("a", 06777));
    NEED(mkdir("d", 0777));
    NEED(chown("d", 0, 500));
    NEED(chmod("d", 02777));
    NEED(mkdir("d/sub", 0755));
    mode("d/sub");
    put_file("d/f", "");
    mode("d/f");
    NEED(setresgid(1000, 1000, 1000));
    NEED(setresuid(1000, 1000, 1000));
    int fd = NEED(open("a", O_WRONLY));
    SAY(write(fd, "y", 1));
    mode("a");
    put_file("d/user", "");
    mode("d/user");
    SAY(chmod("d/user", 02755));
    mode("d/user");
    SAY(mkdir("d/subuser", 0755));
    mode("d/subuser");
    SAY(chmod("a", 06755));
    mode("a");
    SAY(chown("a", -1, 1000));
    mode("a");
    SAY(chown("a", -1, -1));
    return 0;
}

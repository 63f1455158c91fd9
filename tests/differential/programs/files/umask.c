// umask(2): what it takes from open, mkdir, mkfifo, mknod; inheritance over fork.
#include "../check.h"

static void mode(const char *path) {
    struct stat st;
    NEED(stat(path, &st));
    printf("%s %o\n", path, st.st_mode);
}

int main(void) {
    printf("%o\n", umask(027));
    NEED(open("a", O_CREAT | O_WRONLY, 0777));
    mode("a");
    NEED(mkdir("d", 0777));
    mode("d");
    NEED(mkfifo("p", 0666));
    mode("p");
    NEED(mknod("r", S_IFREG | 0666, 0));
    mode("r");
    printf("%o\n", umask(07777));
    printf("%o\n", umask(0));
    IN_CHILD("child", printf("%o\n", umask(077)));
    printf("%o\n", umask(0));
    NEED(open("b", O_CREAT | O_WRONLY, 07777));
    mode("b");
    NEED(mkdir("e", 07777));
    mode("e");
    SAY(mknod("x", S_IFDIR | 0700, 0));
    SAY(mknod("y", 0600, 0));
    mode("y");
    SAY(mknod("y", 0600, 0));
    return 0;
}

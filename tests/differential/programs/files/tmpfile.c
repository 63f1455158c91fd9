// O_TMPFILE and linkat of its descriptor, unlinked files through /proc/self/fd.
#include "../check.h"

int main(void) {
    int fd = NEED(open(".", O_TMPFILE | O_RDWR, 0600));
    SAY(write(fd, "anonymous", 9));
    struct stat st;
    NEED(fstat(fd, &st));
    printf("links %ld mode %o\n", (long)st.st_nlink, st.st_mode);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SAY(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    show_file("named");
    NEED(fstat(fd, &st));
    printf("links %ld\n", (long)st.st_nlink);
    SAY(unlink("named"));
    int again = NEED(open(path, O_RDONLY));
    char data[16] = "";
    SAY(read(again, data, sizeof data));
    printf("[%s]\n", data);
    OK(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    OK(open("none", O_TMPFILE | O_RDWR, 0600));
    put_file("f", "");
    OK(open("f", O_TMPFILE | O_RDWR, 0600));
    char template[] = "nameXXXXXX";
    OK(mkstemp(template));
    IS(strlen(template) == 10 && strcmp(template, "nameXXXXXX") != 0);
    return 0;
}

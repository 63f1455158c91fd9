// open(2): creation, exclusion, truncation and the errors of each flag.
#include "../check.h"

int main(void) {
    OK(open("a", O_RDONLY));
    OK(open("a", O_WRONLY | O_CREAT, 0640));
    OK(open("a", O_WRONLY | O_CREAT | O_EXCL, 0640));
    struct stat st;
    NEED(stat("a", &st));
    printf("mode %o size %ld\n", st.st_mode, (long)st.st_size);
    put_file("b", "hello");
    OK(open("b", O_RDONLY | O_TRUNC));
    NEED(stat("b", &st));
    printf("size after O_RDONLY|O_TRUNC %ld\n", (long)st.st_size);
    OK(mkdir("d", 0755));
    OK(open("d", O_WRONLY));
    OK(open("d", O_RDWR));
    OK(open("d", O_RDONLY | O_CREAT, 0600));
    OK(open("d", O_RDONLY | O_DIRECTORY));
    OK(open("a", O_RDONLY | O_DIRECTORY));
    OK(open("a/", O_RDONLY));
    OK(open("a/b", O_RDONLY));
    OK(open("missing/b", O_RDONLY | O_CREAT, 0600));
    OK(open("new/", O_RDONLY | O_CREAT, 0600));
    OK(open("", O_RDONLY));
    OK(open(NULL, O_RDONLY));
    OK(symlink("a", "s"));
    OK(open("s", O_RDONLY | O_NOFOLLOW));
    OK(open("s", O_PATH | O_NOFOLLOW));
    OK(symlink("nowhere", "dangling"));
    OK(open("dangling", O_RDONLY));
    OK(open("dangling", O_WRONLY | O_CREAT | O_EXCL, 0600));
    OK(open("dangling", O_WRONLY | O_CREAT, 0600));
    OK(access("nowhere", F_OK));
    OK(open("d", O_TMPFILE | O_RDONLY, 0600));
    return 0;
}

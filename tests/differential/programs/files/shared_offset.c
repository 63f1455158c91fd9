// The file offset is shared over fork and dup, not over two opens; concurrent appends lose nothing.
#include "../check.h"

int main(void) {
    put_file("a", "0123456789");
    int fd = NEED(open("a", O_RDONLY));
    char c;
    IN_CHILD("child", { read(fd, &c, 1); read(fd, &c, 1); printf("child read %c\n", c); });
    read(fd, &c, 1);
    printf("parent read %c\n", c);
    int out = NEED(open("log", O_WRONLY | O_CREAT | O_APPEND, 0600));
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        if ((children[i] = fork()) == 0) {
            char line[8];
            snprintf(line, sizeof line, "line %d\n", i);
            for (int n = 0; n < 100; n++) write(out, line, 7);
            _exit(0);
        }
    for (int i = 0; i < 4; i++) waitpid(children[i], NULL, 0);
    struct stat st;
    NEED(stat("log", &st));
    printf("size %ld\n", (long)st.st_size);
    FILE *log = fopen("log", "r");
    int count[4] = {0}, bad = 0;
    for (char line[32]; fgets(line, sizeof line, log);)
        if (strncmp(line, "line ", 5) == 0 && line[6] == '\n' && line[5] >= '0' && line[5] < '4')
            count[line[5] - '0']++;
        else
            bad++;
    printf("%d %d %d %d bad %d\n", count[0], count[1], count[2], count[3], bad);
    return 0;
}

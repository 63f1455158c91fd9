// A directory with a thousand files: all listed once, removed while reading.
#include "../check.h"
#include <dirent.h>

int main(void) {
    char name[32];
    NEED(mkdir("d", 0755));
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "d/f%04d", i);
        close(NEED(open(name, O_CREAT | O_WRONLY, 0600)));
    }
    static char seen[1000];
    DIR *dir = opendir("d");
    int count = 0, twice = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] != 'f') continue;
        int i = atoi(e->d_name + 1);
        twice += seen[i]++ != 0;
        count++;
    }
    printf("count %d twice %d\n", count, twice);
    rewinddir(dir);
    int removed = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] != 'f') continue;
        snprintf(name, sizeof name, "d/%s", e->d_name);
        removed += unlink(name) == 0;
    }
    closedir(dir);
    printf("removed %d\n", removed);
    SAY(rmdir("d"));
    return 0;
}

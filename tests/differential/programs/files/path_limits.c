// NAME_MAX, PATH_MAX, dot names, slashes, and the errors of too long ones.
#include "../check.h"

int main(void) {
    char name[5000];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    OK(open(name, O_CREAT | O_WRONLY, 0600));
    name[255] = 'n';
    name[256] = 0;
    OK(open(name, O_CREAT | O_WRONLY, 0600));
    SAY(mkdir(name, 0700));
    SAY(access(name, F_OK));
    name[256] = 'n';
    name[4096] = 0;
    SAY(access(name, F_OK));
    strcpy(name, "d");
    NEED(mkdir("d", 0700));
    for (int i = 0; i < 2046; i++) strcat(name, "/.");
    printf("length %zu\n", strlen(name));
    SAY(access(name, F_OK));
    strcat(name, "//");
    SAY(access(name, F_OK));
    strcat(name, "/");
    SAY(access(name, F_OK));
    put_file("d/f", "x");
    SAY(access("d/../d/./f", F_OK));
    SAY(access("d//f", F_OK));
    SAY(access("d/f/.", F_OK));
    SAY(access("d/f/..", F_OK));
    SAY(access("d/nothing/..", F_OK));
    SAY(access("/..", F_OK));
    SAY(mkdir("d/.", 0700));
    SAY(mkdir("d/..", 0700));
    SAY(mkdir("e/", 0700));
    SAY(mkdir("/", 0700));
    return 0;
}

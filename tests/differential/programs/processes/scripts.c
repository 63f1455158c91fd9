// #! scripts: the argument line, a script as interpreter, blanks, no newline.
#include "../check.h"

static void run(const char *path) {
    pid_t pid = NEED(fork());
    if (pid == 0) {
        execl(path, "zero", "one", "two words", NULL);
        printf("%s: %s\n", path, error_name(errno));
        _exit(127);
    }
    reap(path, pid);
}

static void script(const char *path, const char *text) {
    put_file(path, text);
    NEED(chmod(path, 0755));
    run(path);
}

int main(void) {
    script("./plain", "#!/bin/sh\necho \"$0 $# [$1] [$2]\"\n");
    script("./option", "#!/bin/sh -e\necho \"$- \" | grep -c e\nfalse\necho not reached\n");
    script("./blanks", "#!   /bin/sh   -u  \necho \"[$1]\"\necho $unset_variable\n");
    script("./echo", "#!/bin/echo a b  c\n");
    script("./noline", "#!/bin/echo");
    script("./nested", "#!./plain\n");
    script("./nested2", "#!./nested x\n");
    put_file("unreadable", "#!/bin/sh\necho ran\n");
    NEED(chmod("unreadable", 0111));
    run("./unreadable");
    return 0;
}

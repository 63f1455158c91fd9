// renameat2(2): NOREPLACE, EXCHANGE, and flags that exclude each other.
#include "../check.h"

int main(void) {
    put_file("a", "A");
    put_file("b", "B");
    SAY(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE));
    SAY(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
    SAY(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE));
    show_file("b");
    show_file("c");
    SAY(renameat2(AT_FDCWD, "b", AT_FDCWD, "missing", RENAME_EXCHANGE));
    SAY(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE | RENAME_NOREPLACE));
    SAY(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", 0x100));
    SAY(mkdir("d", 0700));
    put_file("d/x", "X");
    SAY(renameat2(AT_FDCWD, "d", AT_FDCWD, "b", RENAME_EXCHANGE));
    show_file("b/x");
    show_file("d");
    SAY(renameat2(AT_FDCWD, "b", AT_FDCWD, "b/x", RENAME_EXCHANGE));
    int dir = NEED(open("b", O_RDONLY));
    SAY(renameat2(dir, "x", AT_FDCWD, "y", 0));
    show_file("y");
    return 0;
}

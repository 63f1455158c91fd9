// rename(2): replacing, directories over files and back, into itself, the same file.
#include "../check.h"

int main(void) {
    put_file("a", "A");
    put_file("b", "B");
    SAY(rename("a", "b"));
    show_file("a");
    show_file("b");
    SAY(rename("b", "b"));
    SAY(rename("missing", "x"));
    SAY(mkdir("d", 0755));
    SAY(mkdir("e", 0755));
    SAY(rename("b", "d"));
    SAY(rename("d", "b"));
    SAY(rename("d", "e"));
    SAY(access("e", F_OK));
    put_file("e/f", "F");
    SAY(mkdir("g", 0755));
    SAY(rename("g", "e"));
    SAY(rename("e", "e/sub"));
    SAY(rename("e", "g"));
    show_file("g/f");
    SAY(rename("g/.", "h"));
    SAY(rename("g/", "h/"));
    show_file("h/f");
    SAY(rename("b", "h/"));
    SAY(rename("b", "new/"));
    SAY(link("b", "c"));
    SAY(rename("b", "c"));
    show_file("b");
    show_file("c");
    SAY(symlink("h", "s"));
    SAY(rename("s", "t"));
    show_file("t/f");
    SAY(rename("b/x", "y"));
    SAY(rename("b", "no/such"));
    SAY(rename(".", "z"));
    SAY(rename("h", ".."));
    return 0;
}

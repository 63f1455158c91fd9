// execve(2): every error, and that a failed one changes nothing.
#include "../check.h"

static void try(const char *path) {
    char *argv[] = {(char *)path, NULL}, *envp[] = {NULL};
    errno = 0;
    execve(path, argv, envp);
    printf("%s: %s\n", path, error_name(errno));
}

int main(void) {
    try("missing");
    try("");
    try("/");
    try(".");
    put_file("plain", "data");
    try("plain");
    NEED(chmod("plain", 0755));
    try("plain");
    try("plain/x");
    put_file("empty", "");
    NEED(chmod("empty", 0755));
    try("empty");
    put_file("noint", "#!/does/not/exist\n");
    NEED(chmod("noint", 0755));
    try("noint");
    put_file("noint2", "#!\n");
    NEED(chmod("noint2", 0755));
    try("noint2");
    put_file("self", "#!./self\n");
    NEED(chmod("self", 0755));
    try("self");
    put_file("elf", "\177ELF garbage that is no program at all, long enough to be read as a header of sixty-four bytes");
    NEED(chmod("elf", 0755));
    try("elf");
    NEED(symlink("loop", "loop"));
    try("loop");
    char long_name[300];
    memset(long_name, 'a', 299);
    long_name[299] = 0;
    errno = 0;
    execl(long_name, "x", NULL);
    printf("long name: %s\n", error_name(errno));
    errno = 0;
    syscall(SYS_execve, (void *)8, NULL, NULL);
    printf("bad path: %s\n", error_name(errno));
    errno = 0;
    syscall(SYS_execve, "/bin/sh", (void *)8, NULL);
    printf("bad argv: %s\n", error_name(errno));
    char *big = malloc(200000);
    memset(big, 'b', 199999);
    big[199999] = 0;
    errno = 0;
    execl("/bin/true", "true", big, NULL);
    printf("big argument: %s\n", error_name(errno));
    int writer = NEED(open("busy", O_CREAT | O_WRONLY, 0755));
    FILE *from = fopen("/proc/self/exe", "r");
    static char copy[1 << 20];
    size_t n = fread(copy, 1, sizeof copy, from);
    NEED(write(writer, copy, n));
    try("./busy");
    return 0;
}

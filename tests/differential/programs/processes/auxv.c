// The initial stack: argument vector, environment, auxiliary vector.
#include "../check.h"
#include <sys/auxv.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc == 1) {
        char *args[] = {"", "two", "", "four", NULL}, *env[] = {"A=1", "B=", "NOEQUALS", "A=2", NULL};
        execve("/proc/self/exe", args, env);
    }
    for (int i = 0; i < argc; i++) printf("argv[%d]=[%s]\n", i, argv[i]);
    for (char **e = environ; *e; e++) printf("env [%s]\n", *e);
    printf("%s\n", getenv("A"));
    IS(getauxval(AT_PAGESZ) == 4096);
    IS(getauxval(AT_CLKTCK) == 100);
    IS(getauxval(AT_UID) == getuid() && getauxval(AT_EGID) == getegid());
    IS(getauxval(AT_SECURE) == 0);
    IS(getauxval(AT_PHDR) != 0 && getauxval(AT_PHENT) == 56 && getauxval(AT_PHNUM) > 3);
    IS(getauxval(AT_ENTRY) != 0 && getauxval(AT_BASE) != 0);
    IS(getauxval(AT_RANDOM) != 0);
    printf("%s\n", (char *)getauxval(AT_PLATFORM));
    printf("%s\n", (char *)getauxval(AT_EXECFN));
    IS(getauxval(AT_SYSINFO_EHDR) != 0);
    IS(((uintptr_t)__builtin_frame_address(0) & 15) == 0);
    char data[4096];
    int fd = NEED(open("/proc/self/cmdline", O_RDONLY));
    ssize_t n = read(fd, data, sizeof data);
    printf("cmdline %zd:", n);
    for (ssize_t i = 0; i < n; i++) putchar(data[i] ? data[i] : '|');
    printf("\n");
    fd = NEED(open("/proc/self/environ", O_RDONLY));
    n = read(fd, data, sizeof data);
    printf("environ %zd:", n);
    for (ssize_t i = 0; i < n; i++) putchar(data[i] ? data[i] : '|');
    printf("\n");
    return 0;
}

// argv and envp as execve(2) may find them: in a row, backwards, within each other, far apart, at the end of memory.
#include "../check.h"

static void show(int argc, char **argv, char **envp) {
    unsigned hash = 5381;
    long bytes = 0;
    int env = 0;
    for (int k = 1; k < argc; k++) {
        bytes += (long)strlen(argv[k]) + 1;
        for (char *c = argv[k]; *c; c++) hash = hash * 33 + (unsigned char)*c;
        if (k < 12) printf("[%.12s]", argv[k]);
    }
    for (; envp[env]; env++)
        for (char *c = envp[env]; *c; c++) hash = hash * 33 + (unsigned char)*c;
    printf(" argc %d bytes %ld env %d hash %x\n", argc, bytes, env, hash);
}

static void run(const char *what, char **argv, char **envp) {
    printf("%s: ", what);
    fflush(stdout);
    pid_t child = NEED(fork());
    if (!child) {
        execve("/proc/self/exe", argv, envp);
        printf("%s\n", strerror(errno));
        fflush(stdout);
        _exit(0);
    }
    int status;
    NEED(waitpid(child, &status, 0));
}

int main(int argc, char **argv, char **envp) {
    if (argc > 1) {
        show(argc, argv, envp);
        return 0;
    }
    char *none[] = {NULL}, *list[4000];
    char row[] = "self\0one\0two\0\0three\0four";
    run("in a row, one of them empty", (char *[]){row, row + 5, row + 9, row + 13, row + 14, row + 20, NULL}, none);
    run("backwards", (char *[]){row, row + 20, row + 14, row + 9, NULL}, none);
    run("one twice", (char *[]){row, row + 5, row + 5, row + 9, NULL}, none);
    run("one left out", (char *[]){row, row + 5, row + 14, NULL}, none);
    run("from the middle of one", (char *[]){row, row + 6, row + 9, NULL}, none);
    run("within each other", (char *[]){row, row + 14, row + 15, row + 16, row + 20, NULL}, none);
    run("environment in a row", (char *[]){row, row + 5, NULL}, (char *[]){row + 5, row + 9, row + 14, NULL});

    char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int length = 100; length <= 1000; length *= 10) { // short of the reach of one read, and far beyond it
        int count = 0;
        char *at = map;
        for (; count < 300; count++, at += length) {
            memset(at, 'a' + count % 26, (size_t)length - 1);
            at[length - 1] = 0;
            list[count] = at;
        }
        list[count] = NULL;
        run(length == 100 ? "30 KB" : "300 KB", list, none);
        run("as environment", (char *[]){row, row + 5, NULL}, list);
    }
    char *end = map + (1 << 20);
    NEED(munmap(end - 4096, 4096));
    end -= 4096;
    memcpy(end - 10, "self\0last", 10);
    run("up to the end of memory", (char *[]){end - 10, end - 5, NULL}, none);
    end[-1] = 'x';
    run("beyond the end of memory", (char *[]){end - 10, end - 5, NULL}, none);
    run("nowhere", (char *[]){row, (char *)8, NULL}, none);
    memset(map, 'l', 200000);
    map[140000] = 0;
    run("a string too long", (char *[]){row, map, NULL}, none);
    map[131071] = 0;
    run("one just short enough", (char *[]){row, map, NULL}, none);
    struct rlimit small = {512 << 10, RLIM_INFINITY};
    getrlimit(RLIMIT_STACK, &small);
    small.rlim_cur = 512 << 10;
    NEED(setrlimit(RLIMIT_STACK, &small));
    for (int k = 0; k < 3000; k++) list[k] = row + 14;
    list[3000] = NULL;
    run("3000 of one", list, none);
    char *at = map;
    for (int k = 0; k < 3000; k++, at += 40) {
        memset(at, 'm', 39);
        at[39] = 0;
        list[k] = at;
    }
    run("more than a quarter of the stack", list, none);
    return 0;
}

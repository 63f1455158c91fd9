// process_vm_readv and process_vm_writev on a child; /proc/self/mem.
#include "../check.h"

int main(void) {
    static char text[32] = "parent";
    int up[2], down[2];
    char c;
    NEED(pipe(up));
    NEED(pipe(down));
    pid_t child = NEED(fork());
    if (child == 0) {
        strcpy(text, "child's own");
        write(up[1], "x", 1);
        read(down[0], &c, 1);
        printf("child has [%s]\n", text);
        _exit(0);
    }
    NEED(read(up[0], &c, 1));
    char data[32] = "";
    struct iovec local = {data, 12}, remote = {text, 12};
    SAY(process_vm_readv(child, &local, 1, &remote, 1, 0));
    printf("[%s]\n", data);
    strcpy(data, "overwritten");
    SAY(process_vm_writev(child, &local, 1, &remote, 1, 0));
    struct iovec bad = {(void *)8, 12};
    SAY(process_vm_readv(child, &local, 1, &bad, 1, 0));
    SAY(process_vm_readv(child, &local, 1, &remote, 1, 1));
    SAY(process_vm_readv(1 << 29, &local, 1, &remote, 1, 0));
    NEED(write(down[1], "x", 1));
    reap("child", child);
    int mem = NEED(open("/proc/self/mem", O_RDWR));
    memset(data, 0, sizeof data);
    SAY(pread(mem, data, 6, (off_t)(uintptr_t)text));
    printf("[%s]\n", data);
    SAY(pwrite(mem, "P", 1, (off_t)(uintptr_t)text));
    printf("[%s]\n", text);
    SAY(pread(mem, data, 6, 8));
    return 0;
}

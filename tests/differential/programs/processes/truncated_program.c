// static Programs whose files end too early: before the page to be zeroed behind the data, within it, in the headers.
#include "../check.h"
#include <elf.h>

static char zeros[5000] = "";
static char file[1 << 24];

static void run(const char *name, size_t size) {
    int fd = open("part", O_CREAT | O_TRUNC | O_WRONLY, 0755);
    NEED(fd);
    NEED(write(fd, file, size) == (ssize_t)size ? 0 : -1);
    close(fd);
    pid_t pid = fork();
    if (!pid) {
        execl("./part", "part", "child", NULL);
        _exit(errno == ENOEXEC ? 101 : errno == EIO ? 102 : 103);
    }
    int status;
    NEED(waitpid(pid, &status, 0));
    if (WIFSIGNALED(status)) printf("%s: signal %d\n", name, WTERMSIG(status));
    else printf("%s: status %d\n", name, WEXITSTATUS(status));
}

int main(int argc, char **argv) {
    if (argc > 1) return 7 + zeros[4000];
    int fd = open("/proc/self/exe", O_RDONLY);
    NEED(fd);
    ssize_t size = 0, count;
    while ((count = read(fd, file + size, sizeof file - size)) > 0) size += count;
    Elf64_Ehdr *header = (Elf64_Ehdr *)file;
    Elf64_Phdr *segment = (Elf64_Phdr *)(file + header->e_phoff);
    for (int k = 0; k < header->e_phnum; k++, segment++) {
        if (segment->p_type != PT_LOAD || segment->p_memsz <= segment->p_filesz) continue;
        size_t end = segment->p_offset + segment->p_filesz;
        run("whole", size);
        run("to the end of the data", end);
        run("before the last page of the data", end & ~0xfffl);
        run("before the data", segment->p_offset & ~0xfffl);
    }
    run("headers only", 4096);
    run("less than the headers", 100);
    run("half the first header", 30);
    return 0;
}

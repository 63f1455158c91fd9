// A shared mapping that may only be read shows what is written to the file, by whatever way, and can never be written.
#include "../check.h"
#include <setjmp.h>

#define P 4096L
static sigjmp_buf away;
static void on_fault(int signo) { siglongjmp(away, signo); }
static int look(volatile const char *at) {
    int signo = sigsetjmp(away, 1);
    return signo ? -signo : *at;
}

static void all(const char *what, int writer, int reader) {
    printf("%s\n", what);
    NEED(ftruncate(writer, 4 * P));
    char *p = mmap(NULL, 4 * P, PROT_READ, MAP_SHARED, reader, 0);
    IS(p != MAP_FAILED);
    SAY(look(p));
    SAY(look(p + 3 * P));
    NEED(pwrite(writer, "ab", 2, 0));
    SAY(look(p + 1));
    char *q = mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);
    if (q != MAP_FAILED) {
        q[3 * P] = 'q';
        SAY(look(p + 3 * P));
    } else
        printf("no writable mapping: %s\n", error_name(errno));
    SAY(mprotect(p, P, PROT_READ | PROT_WRITE));
    SAY(mprotect(p, P, PROT_NONE));
    SAY(look(p));
    SAY(mprotect(p, P, PROT_READ));
    SAY(look(p));
    SAY(madvise(p, 4 * P, MADV_DONTNEED));
    SAY(look(p + 1));
    SAY(msync(p, 4 * P, MS_SYNC));

    char *copy = mremap(p, 0, 2 * P, MREMAP_MAYMOVE);
    IS(copy != MAP_FAILED);
    SAY(look(copy + 1));
    SAY(mprotect(copy, P, PROT_READ | PROT_WRITE));
    char *part = mremap(p + 2 * P, 0, 2 * P, MREMAP_MAYMOVE);
    SAY(look(part + P));
    SAY(mremap(copy, 0, P, 0) == MAP_FAILED ? -1 : 0);
    copy = mremap(copy, 2 * P, 4 * P, MREMAP_MAYMOVE);
    SAY(look(copy + 3 * P));
    char *place = mmap(NULL, 8 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(mremap(copy, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, place + 2 * P) == place + 2 * P);
    IS(mmap(place, P, PROT_READ, MAP_SHARED | MAP_FIXED, reader, 0) == place);
    NEED(pwrite(writer, "cd", 2, 0));
    SAY(look(place));
    SAY(look(place + P));
    SAY(look(place + 2 * P + 1));

    pid_t pid = NEED(fork());
    if (pid == 0) {
        NEED(pwrite(writer, "child", 5, P));
        _exit(look(p + P) == 'c' && look(part + P) == look(p + 3 * P) ? 7 : 8);
    }
    int status;
    NEED(waitpid(pid, &status, 0));
    SAY(WEXITSTATUS(status));
    SAY(look(p + P + 1));
    if (ftruncate(writer, P) == 0) {
        SAY(look(p));
        SAY(look(p + P));
        NEED(ftruncate(writer, 4 * P));
        SAY(look(p + P));
        SAY(look(p + 3 * P));
    }
    NEED(munmap(p, 4 * P));
}

int main(void) {
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    int writer = NEED(open("file", O_RDWR | O_CREAT, 0600));
    all("a file", writer, NEED(open("file", O_RDONLY)));
    writer = NEED(open("/dev/shm/shared_read_only", O_RDWR | O_CREAT, 0600));
    int reader = NEED(open("/dev/shm/shared_read_only", O_RDONLY));
    unlink("/dev/shm/shared_read_only");
    all("a temporary file", writer, reader);
    writer = NEED(memfd_create("sealed", MFD_ALLOW_SEALING));
    NEED(ftruncate(writer, 4 * P));
    NEED(pwrite(writer, "xyz", 3, 0));
    SAY(fcntl(writer, F_ADD_SEALS, F_SEAL_WRITE));
    char *p = mmap(NULL, 4 * P, PROT_READ, MAP_SHARED, writer, 0);
    SAY(look(p + 1));
    SAY(mprotect(p, P, PROT_READ | PROT_WRITE));
    SAY(mremap(p, 0, P, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
    return 0;
}

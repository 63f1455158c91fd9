// madvise(2): DONTNEED zeroes anonymous and re-reads file pages, DONTFORK, WIPEONFORK, REMOVE, errors.
#include "../check.h"

int main(void) {
    char *anon = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(anon, 'a', 4 * 4096);
    SAY(madvise(anon + 4096, 4096, MADV_DONTNEED));
    printf("%c %d %c\n", anon[0], anon[4096], anon[8192]);
    put_file("f", "file content");
    int fd = NEED(open("f", O_RDWR));
    char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    private[0] = 'X';
    SAY(madvise(private, 4096, MADV_DONTNEED));
    printf("%c\n", private[0]);
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[0] = 's';
    SAY(madvise(shared, 4096, MADV_DONTNEED));
    printf("%c\n", shared[0]);
    SAY(madvise(shared, 4096, MADV_REMOVE));
    printf("%d\n", shared[0]);
    SAY(madvise(anon + 1, 4096, MADV_DONTNEED));
    SAY(madvise(anon, 0, MADV_DONTNEED));
    SAY(madvise(anon, 4096, 4242));
    SAY(madvise(anon, 4096, MADV_WILLNEED));
    SAY(madvise(anon, 4096, MADV_SEQUENTIAL));
    SAY(madvise(anon, 4096, MADV_NORMAL));
    SAY(madvise(anon, 4096, MADV_RANDOM));
    SAY(madvise(anon, 4096, MADV_DONTDUMP));
    SAY(madvise(anon, 4096, MADV_FREE));
    SAY(madvise(anon + 8192, 4096, MADV_WIPEONFORK));
    SAY(madvise(anon + 12288, 4096, MADV_DONTFORK));
    IN_CHILD("wipe on fork", printf("%d\n", anon[8192]));
    IN_CHILD("not forked", anon[12288] = 1);
    printf("%c %c\n", anon[8192], anon[12288]);
    SAY(madvise(anon + 12288, 4096, MADV_DOFORK));
    IN_CHILD("forked again", printf("%c\n", anon[12288]));
    NEED(munmap(anon + 4096, 4096));
    SAY(madvise(anon, 4 * 4096, MADV_DONTNEED));
    printf("%d %d\n", anon[0], anon[8192]);
    return 0;
}

// Threads that map, move and unmap at the same time never get each other's memory.
#include "../check.h"
#include <pthread.h>
#include <sys/mman.h>

enum { THREADS = 6, ROUNDS = 300, PAGES = 3 };

static void *work(void *argument) {
    long me = (long)argument, wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        long *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return (void *)-1L;
        if (p[0] || p[512]) wrong++;
        p[0] = p[512] = me * 1000 + round;
        p = mremap(p, PAGES * 4096, 2 * PAGES * 4096, MREMAP_MAYMOVE);
        if (p == MAP_FAILED) return (void *)-1L;
        if (p[PAGES * 512]) wrong++;
        p[PAGES * 512] = me;
        if (p[0] != me * 1000 + round || p[512] != p[0]) wrong++;
        munmap(p, 2 * PAGES * 4096);
    }
    return (void *)wrong;
}

int main(void) {
    pthread_t threads[THREADS];
    for (long n = 0; n < THREADS; n++) NEED(pthread_create(&threads[n], NULL, work, (void *)(n + 1)));
    for (int n = 0; n < THREADS; n++) {
        void *wrong;
        pthread_join(threads[n], &wrong);
        printf("wrong %ld\n", (long)wrong);
    }
    return 0;
}

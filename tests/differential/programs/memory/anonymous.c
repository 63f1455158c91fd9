// Anonymous mappings: zero-filled, private over fork, shared over fork.
#include "../check.h"

int main(void) {
    int *private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("%d %d\n", private[1500], shared[1500]);
    private[0] = shared[0] = 1;
    IN_CHILD("child", {
        printf("child sees %d %d\n", private[0], shared[0]);
        private[0] = shared[0] = 2;
        shared[2000] = 7;
    });
    printf("parent sees %d %d %d\n", private[0], shared[0], shared[2000]);
    private[1] = 5;
    IN_CHILD("second child", {
        private[1]++;
        IN_CHILD("grandchild", printf("%d\n", private[1]++));
        printf("%d\n", private[1]);
    });
    printf("%d\n", private[1]);
    return 0;
}

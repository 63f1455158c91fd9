// static
#include "../check.h"
#include <sys/auxv.h>

int main(int argc, char **argv) {
    printf("a program without a dynamic linker: %d %d\n", argc, argv[1] == NULL);
    IS(getauxval(AT_BASE) == 0);
    IN_CHILD("child", printf("forks\n"));
    void *p = malloc(1 << 20);
    memset(p, 1, 1 << 20);
    IS(p != NULL);
    pthread_t t;
    pthread_create(&t, NULL, (void *(*)(void *))strlen, "joined");
    void *value;
    pthread_join(t, &value);
    printf("%ld\n", (long)value);
    return 3;
}

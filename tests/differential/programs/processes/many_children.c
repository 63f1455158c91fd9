// Two hundred children in waves: all statuses come back, none is lost.
#include "../check.h"

int main(void) {
    int seen[100] = {0};
    for (int wave = 0; wave < 4; wave++) {
        for (int i = 0; i < 50; i++)
            if (NEED(fork()) == 0) _exit(i);
        int status;
        for (int i = 0; i < 50; i++) {
            NEED(wait(&status));
            seen[WEXITSTATUS(status)]++;
        }
    }
    int right = 0;
    for (int i = 0; i < 50; i++) right += seen[i] == 4;
    printf("right %d\n", right);
    SAY(wait(NULL));
    return 0;
}

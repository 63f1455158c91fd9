// membarrier(2) and that rseq is either registered by the C library or refused cleanly.
#include "../check.h"
#include <linux/membarrier.h>

int main(void) {
    long query = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    IS(query > 0 && (query & MEMBARRIER_CMD_GLOBAL) != 0);
    SAY(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    SAY(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
    SAY(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    SAY(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 1, 0));
    SAY(syscall(SYS_membarrier, 1 << 30, 0, 0));
    SAY(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
    return 0;
}

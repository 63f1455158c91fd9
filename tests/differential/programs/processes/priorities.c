// nice, getpriority, setpriority, scheduling policies and affinity.
#include "../check.h"

int main(void) {
    SAY(getpriority(PRIO_PROCESS, 0));
    SAY(nice(5));
    SAY(getpriority(PRIO_PROCESS, 0));
    SAY(setpriority(PRIO_PROCESS, 0, 100));
    SAY(getpriority(PRIO_PROCESS, 0));
    SAY(getpriority(9, 0));
    SAY(setpriority(PRIO_PROCESS, 1 << 29, 0));
    IN_CHILD("inherits", SAY(getpriority(PRIO_PROCESS, 0)));
    IN_CHILD("user", { NEED(setresuid(5, 5, 5)); SAY(setpriority(PRIO_PROCESS, 0, 0)); });
    SAY(sched_getscheduler(0));
    SAY(sched_getscheduler(1 << 29));
    SAY(sched_get_priority_max(SCHED_FIFO));
    SAY(sched_get_priority_min(SCHED_RR));
    SAY(sched_get_priority_max(SCHED_OTHER));
    SAY(sched_get_priority_max(77));
    struct sched_param param = {7};
    SAY(sched_setscheduler(0, SCHED_OTHER, &param));
    param.sched_priority = 0;
    SAY(sched_setscheduler(0, SCHED_BATCH, &param));
    SAY(sched_getscheduler(0));
    SAY(sched_getparam(0, &param));
    SAY(sched_yield());
    cpu_set_t set;
    SAY(sched_getaffinity(0, sizeof set, &set));
    IS(CPU_COUNT(&set) >= 1);
    SAY(sched_setaffinity(0, sizeof set, &set));
    CPU_ZERO(&set);
    SAY(sched_setaffinity(0, sizeof set, &set));
    IS(sched_getcpu() >= 0);
    IS(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    return 0;
}

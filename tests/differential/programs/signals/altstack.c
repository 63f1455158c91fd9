// sigaltstack: handlers run there, SS_ONSTACK while they do, AUTODISARM, errors.
#include "../check.h"

static char area[65536], other[65536];
static volatile int on_it, flags_inside, change_inside;

static void on(int signo) {
    char here;
    on_it = &here >= area && &here < area + sizeof area;
    stack_t now;
    sigaltstack(NULL, &now);
    flags_inside = now.ss_flags;
    stack_t change = {.ss_sp = other, .ss_size = sizeof other};
    change_inside = sigaltstack(&change, NULL) == -1 ? errno : 0;
}

int main(void) {
    stack_t stack = {.ss_sp = area, .ss_size = sizeof area}, old;
    SAY(sigaltstack(&stack, &old));
    printf("old flags %d\n", old.ss_flags);
    struct sigaction action = {.sa_handler = on, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    printf("on it %d flags %d change %s\n", on_it, flags_inside, error_name(change_inside));
    action.sa_flags = 0;
    sigaction(SIGUSR1, &action, NULL);
    stack.ss_flags = 0;
    raise(SIGUSR1);
    printf("without SA_ONSTACK: on it %d flags %d\n", on_it, flags_inside);
    stack = (stack_t){.ss_sp = area, .ss_size = 100};
    SAY(sigaltstack(&stack, NULL));
    stack = (stack_t){.ss_sp = area, .ss_size = sizeof area, .ss_flags = 77};
    SAY(sigaltstack(&stack, NULL));
    stack = (stack_t){.ss_sp = area, .ss_size = sizeof area, .ss_flags = (int)0x80000000};
    SAY(sigaltstack(&stack, NULL));
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    printf("autodisarm: on it %d flags %d change %s\n", on_it, flags_inside, error_name(change_inside));
    sigaltstack(NULL, &old);
    IS(old.ss_sp == area);
    IN_CHILD("inherited by fork", { sigaltstack(NULL, &old); IS(old.ss_sp == area); });
    stack = (stack_t){.ss_flags = SS_DISABLE};
    SAY(sigaltstack(&stack, NULL));
    sigaltstack(NULL, &old);
    IS(old.ss_flags == SS_DISABLE);
    return 0;
}

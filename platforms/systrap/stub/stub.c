/* The guest-side stub: the only code of ours that runs inside a guest's address space.
 *
 * Freestanding, position-fixed, read-only. It trusts nothing and decides nothing: it writes what happened into its
 * thread's slot, waits, and does what the slot says. Whatever a guest does by jumping in here it could do anyway: the
 * seccomp filter (filter.py) knows every system-call instruction below by its address, and the ones that change an address
 * space or make a process go on only when the Sentry finds them equal to what it posted.
 *
 * Read entry.S first (where control enters), then layout.py (the slot), then systrap_platform.py (the other side).
 */
#include "stub.h"

#define GLOBAL32(off) (*(volatile u32 *)(STUB_BASE + GLOBAL + (off)))

/* System-call instructions, each at a labelled address (entry.S). */
extern i64 stub_futex_wait(volatile u32 *word, u32 expected);
extern i64 stub_ring(void);
extern i64 stub_yield(void);
extern i64 stub_close(u64 fd);
extern i64 stub_clone(const volatile u64 *op);
extern int stub_trapped(u64 slot, u32 nr, volatile u64 *gregs); /* trapped.c */
extern void stub_drop_ahead(u64 slot, u32 nr, int changes_limits), stub_note_opened(void), stub_looks_at_robust_list(u64 slot);
extern char stub_user_copy_begin[], stub_user_copy_end[], stub_user_copy_fault[];
extern void stub_exit(void) __attribute__((noreturn));
extern void stub_park(u64 slot) __attribute__((noreturn));
extern void stub_recycle(void) __attribute__((noreturn));
extern void stub_save_memory(void), stub_put_memory_back(void); /* saved_memory.c */
extern void stub_fill(u64 slot);                                /* first_contents.c */
extern void stub_return(u64 uc) __attribute__((noreturn));
extern char stub_arrive[];

struct kernel_siginfo { int signo, err, code, pad; u64 addr; u32 nr_low; u32 arch; };
#define ARCH 0xc000003e /* AUDIT_ARCH_X86_64 */
enum { ZERO_FLAG = 0x40, NR_SIGPROCMASK = 14, NR_SIGRETURN = 15, NR_EXIT = 60, NO_NR = -1 };
enum { SIGNAL_BUS = 7, SIGNAL_SEGV = 11, SIGNAL_SYS = 31 };
#define BIT(signo) (1ul << ((signo) - 1))
#define UC_GREGS 40 /* offsets in struct ucontext (x86-64): gregs, */
#define UC_MASK 296 /* the signal mask of what was interrupted, */
#define UC_STACK 16 /* its signal stack, */
#define UC_SIZE 304
#define UC_STRICT 6 /* and in its flags: SIGCONTEXT_SS, STRICT_RESTORE_SS */

extern char stub_text_end[];
extern char stub_recycle_begin[] __attribute__((visibility("hidden"))), stub_recycle_end[] __attribute__((visibility("hidden")));
extern char stub_take_frame_ip[], stub_copy_begin[], stub_copy_end[], stub_copy_fault[];
extern char stub_bring_begin[], stub_bring_end[], stub_bring_fault[];
extern char stub_bring_struct_begin[], stub_bring_struct_end[];
extern char stub_word_begin[], stub_word_end[], stub_word_fault[];
extern char stub_bring_path_begin[], stub_bring_path_end[], stub_bring_nothing[];
/* Calls that are answered without an event (local.h). `away`: where to go instead of on; 0: all is done but the
 * jump; 1: see there. */
extern char stub_local_mask[], stub_local_sigreturn[], stub_sigreturn_ask_ip[];
extern const struct local { u64 begin, end, away; } stub_locals[];

/* Tell the Sentry that something is in the slot. The exchange is a full barrier: it orders the event before the look at
 * ARMED, so that either we see the Sentry going to sleep or its last look at the slots sees us. */
static void post(u64 slot, u32 kind) {
  SLOT32(slot, KIND) = kind;
  __atomic_exchange_n((u32 *)(slot + STATE), READY, __ATOMIC_SEQ_CST);
  if (GLOBAL32(ARMED)) stub_ring();
}

/* Orders of magnitude in cycles of the time-stamp counter, so that its rate does not matter: about 50 and 100 us. */
enum { SOON = 1 << 17, LONG_TURN = 1 << 18 };
enum { WAKING = 8 }; /* so much of a spin may pass until the Sentry, which we rang for, runs */
enum { MOST_PATIENCE = 4, LEAST_HOLD = 8, MOST_HOLD = 1024 };

/* The answer will take long. What it waits for is often another guest thread, of this very processor: then to yield is to
 * switch to it, at a fraction of what two futex calls and an interrupt between processors cost. Tried only where it is
 * likely to pay: waits that ended SOON speak for it and yielding in vain against it. A LONG_TURN of others rules it out for
 * the next waits, twice as many each time: they compute, and would give a sleeper its processor back at once, but not one
 * that yields. */
static void yield_a_while(u64 slot) {
  volatile u32 *state = (volatile u32 *)(slot + STATE);
  int patience = (int)SLOT32(slot, PATIENCE);
  if (patience <= 0) return;
  u64 before = __builtin_ia32_rdtsc();
  for (u32 left = GLOBAL32(YIELDS); left && !GLOBAL32(ARMED); left--) {
    stub_yield();
    u64 now = __builtin_ia32_rdtsc();
    if (now - before > LONG_TURN) {
      u32 hold = SLOT32(slot, HOLD) * 2;
      if (hold < LEAST_HOLD) hold = LEAST_HOLD;
      if (hold > MOST_HOLD) hold = MOST_HOLD;
      SLOT32(slot, HOLD) = hold;
      SLOT32(slot, PATIENCE) = -hold;
      return;
    }
    if (*state != BLOCKED) {
      SLOT32(slot, HOLD) = 0;
      return;
    }
    before = now;
  }
  SLOT32(slot, PATIENCE) = patience - 1;
}

/* Until the Sentry answers. Spinning and yielding are bounded by the Sentry's SPIN and YIELDS; BLOCKED ends a spin at once.
 * A Sentry that slept runs soon after we rang, and says so (not ARMED any more), or else has no processor: it may have been
 * woken on this very one, and could not run while we spin. */
void stub_wait(u64 slot) {
  volatile u32 *state = (volatile u32 *)(slot + STATE);
  u32 left = GLOBAL32(SPIN), now;
  u64 since = 0;
  for (u32 asleep = left / WAKING; *state == READY && GLOBAL32(ARMED); asleep--) {
    if (!asleep) {
      left = 0;
      break;
    }
    __builtin_ia32_pause();
  }
  while ((now = *state) == READY && left--) __builtin_ia32_pause();
  if (now == BLOCKED) {
    since = __builtin_ia32_rdtsc();
    yield_a_while(slot);
  }
  while ((now = *state) == READY || now == BLOCKED) {
    SLOT32(slot, WAITING) = 1;
    __sync_synchronize();
    /* The Sentry stores STATE and then looks at WAITING without a barrier between: its store becomes visible within
     * this pause, far longer than any store buffer holds a line. */
    for (int k = 0; k < 40 && *state == now; k++) __builtin_ia32_pause();
    if (*state == now) stub_futex_wait(state, now);
    SLOT32(slot, WAITING) = 0;
  }
  if (since && __builtin_ia32_rdtsc() - since < SOON) {
    int patience = (int)SLOT32(slot, PATIENCE);
    if (patience < MOST_PATIENCE) SLOT32(slot, PATIENCE) = patience + 1;
  }
  /* Nothing below may be read before the state was. */
  __asm__ volatile("" ::: "memory");
}

/* Whether all succeeded. Then OP_COUNT is 0: the thread may go on without saying so. */
static int run_ops(u64 slot) {
  u32 count = SLOT32(slot, OP_COUNT);
  for (u32 k = 0; k < count && k < MAX_OPS; k++) {
    volatile u64 *op = (volatile u64 *)(slot + OPS + k * OP_SIZE);
    i64 result;
    /* No mapping has no length: this call is only there to be answered with files (HAND_IN), and 0 is the answer when a
     * signal came between them and the Sentry. */
    do result = op[0] == 3 ? (stub_close(op[1]), 0) : stub_op(op); /* one may be closed already */
    while (!result && op[0] == 9 && !op[2]);
    op[7] = (u64)result;
    if (result < 0 && result > -4096) return 0;
  }
  SLOT32(slot, OP_COUNT) = 0;
  return 1;
}

/* Operations were done in the midst of a call, and the Sentry has as much to do as we had: it is worth another spin. */
static void linger(u64 slot) {
  for (u32 left = GLOBAL32(SPIN); left && SLOT32(slot, STATE) == READY && !GLOBAL32(ARMED); left--) __builtin_ia32_pause();
}

static void move(u64 slot, u64 other) __attribute__((noreturn));

/* Returns the command that ends the loop: RETURN, RESTORE, TAKE_FRAME or COPY_OUT. */
u32 stub_serve(u64 slot) {
  for (;;) {
    stub_wait(slot);
    u32 state = SLOT32(slot, STATE);
    if (state == PARK) stub_park(slot);
    u32 drop = SLOT32(slot, DROP);
    if (drop) {
      SLOT32(slot, DROP) = 0;
      stub_close(drop);
    }
    if (HEAD64(AHEAD_END)) stub_drop_ahead(slot, NO_NR, 0);
    u32 command = state == RETURN_NOW ? COMMAND_RETURN : state == COPY_NOW ? COMMAND_COPY_OUT : SLOT32(slot, COMMAND);
    switch (command) {
      case COMMAND_OPS:
        run_ops(slot);
        post(slot, OPS_DONE);
        linger(slot);
        break;
      case COMMAND_OPS_RETURN:
        if (run_ops(slot)) return COMMAND_RETURN;
        post(slot, OPS_DONE);
        break;
      case COMMAND_CLONE:
        SLOT64(slot, OPS + 56) = (u64)stub_clone((volatile u64 *)(slot + OPS));
        post(slot, OPS_DONE);
        break;
      case COMMAND_SAVE:
        stub_save_memory();
        post(slot, OPS_DONE);
        break;
      case COMMAND_PUT_BACK:
        stub_put_memory_back();
        post(slot, OPS_DONE);
        break;
      case COMMAND_FILL:
        stub_fill(slot);
        return COMMAND_RESTORE;
      case COMMAND_EXIT:
        stub_exit();
      case COMMAND_RECYCLE:
        stub_recycle();
      case COMMAND_MOVE:
        move(slot, SLOT64(slot, OTHER));
      default:
        return command;
    }
  }
}

static void copy_frame(u64 slot, u64 uc, int back) {
  volatile u64 *regs = (volatile u64 *)(slot + REGS), *gregs = (volatile u64 *)(uc + UC_GREGS);
  for (int k = 0; k < GREGS; k++)
    if (back) gregs[k] = regs[k];
    else regs[k] = gregs[k];
}

/* Bring a saved frame back to life as the slot says; entry.S then returns through rt_sigreturn. What is to be copied
 * before that goes to memory that is there, says the Sentry: a fault in a signal handler ends the process. */
static void revive(u64 slot, u64 uc, u32 command) {
  if (command == COMMAND_COPY_OUT) {
    u64 to = SLOT64(slot, COPY_TO), from = slot + COPY_DATA, length = SLOT64(slot, COPY_LENGTH);
    SLOT64(slot, RESULT) = SLOT64(slot, COPY_RESULT);
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
  }
  if (command == COMMAND_RESTORE) copy_frame(slot, uc, 1);
  else ((volatile u64 *)(uc + UC_GREGS))[G_RAX] = SLOT64(slot, RESULT);
  if (SLOT32(slot, FLAGS) & 1) {
    SLOT32(slot, FLAGS) = 0;
    __asm__ volatile("wrfsbase %0" ::"r"(SLOT64(slot, FS_BASE)));
  }
}

void stub_resume(u64 slot, u64 uc) {
  u32 command = stub_serve(slot);
  revive(slot, uc, command);
}

/* Wait for the slot's task to go on, and give its frame. */
static u64 next_frame(u64 slot) {
  u32 command = stub_serve(slot);
  u64 uc = SLOT64(slot, UCONTEXT);
  revive(slot, uc, command);
  return uc;
}

/* The thread's task is gone. Say that the old frames are left (BLOCKED), and wait for another task. */
u64 stub_parked(u64 slot) {
  __sync_val_compare_and_swap((u32 *)(slot + STATE), PARK, BLOCKED);
  return next_frame(slot);
}

/* The thread came from another slot: say there that its frames are left, for they may be another thread's at once. */
u64 stub_moved(u64 slot, u64 left) {
  SLOT32(left, STATE) = BLOCKED;
  return next_frame(slot);
}

/* This thread goes on as that of another slot, where no thread is. It gets there by rt_sigreturn, which gives it that slot's
 * signal stack: until then a signal comes on the old one, which must be nobody else's yet. */
static __attribute__((noreturn)) void move(u64 slot, u64 other) {
  volatile u64 *uc = (volatile u64 *)(other + BUFFER), *gregs = uc + UC_GREGS / 8;
  for (int k = 0; k < UC_SIZE / 8; k++) uc[k] = 0;
  uc[0] = UC_STRICT;
  uc[UC_STACK / 8] = other + STACK;
  uc[UC_STACK / 8 + 2] = SLOT_SIZE - STACK;
  uc[UC_MASK / 8] = ~(BIT(SIGNAL_SEGV) | BIT(SIGNAL_BUS)); /* as in any handler */
  gregs[G_RDI] = other;
  gregs[G_RSI] = slot;
  gregs[G_RSP] = other + PARK_STACK;
  gregs[G_RIP] = (u64)stub_arrive;
  gregs[G_EFL] = FLAGS_AT_START;
  gregs[G_SEGMENTS] = SEGMENTS_64;
  stub_return((u64)uc);
}

/* Every host signal: SIGSYS (a system call), faults, and the Sentry's kick. Runs on the slot's own signal stack, with
 * everything else blocked but the faults of its own copies from and to the guest (stub_user_copy). */
void stub_handler(int signo, const struct kernel_siginfo *info, u64 uc) {
  u64 slot = (u64)__builtin_frame_address(0) & ~(u64)(SLOT_SIZE - 1);
  volatile u64 *gregs = (volatile u64 *)(uc + UC_GREGS);
  u64 rip = gregs[G_RIP];
  u32 kind = FAULT;
  /* Nobody sends one to a process that is being recycled: it is a trap that its guest set (the trap flag). */
  if (rip >= (u64)stub_recycle_begin && rip < (u64)stub_recycle_end) stub_exit();
  /* A local call is on its way to nobody: the Sentry's kick must not be lost in it, and its faults are the guest's. Either
   * it becomes an ordinary call, or, when it is over but for the jump, this came behind it. */
  for (const struct local *l = stub_locals; rip >> 32 == STUB_BASE >> 32 && l->begin; l++) {
    if (rip < l->begin || rip >= l->end) continue;
    if (l->away > 1) {
      gregs[G_RIP] = l->away;
      return;
    }
    if (l->away) {
      if (!(gregs[G_EFL] & ZERO_FLAG)) return;
      gregs[G_RAX] = 0;
    }
    rip = gregs[G_RIP] = gregs[G_RCX];
  }
  if (signo == SIGNAL_SEGV || signo == SIGNAL_BUS) {
    if (rip >= (u64)stub_user_copy_begin && rip < (u64)stub_user_copy_end) {
      gregs[G_RIP] = (u64)stub_user_copy_fault;
      return;
    }
    /* A fault in this very handler, anywhere else: end the process, by a signal that is held back. */
    if (*(volatile u64 *)(uc + UC_MASK) & BIT(KICK_SIGNAL)) __builtin_trap();
  }
  if (rip >= STUB_BASE && rip < (u64)stub_text_end) {
    if (signo == KICK_SIGNAL) return; /* already on its way to the Sentry */
    if (rip >= (u64)stub_copy_begin && rip < (u64)stub_copy_end) {
      gregs[G_RIP] = (u64)stub_copy_fault;
      return;
    }
    if (rip >= (u64)stub_bring_begin && rip < (u64)stub_bring_end) {
      gregs[G_RIP] = (u64)stub_bring_fault;
      return;
    }
    if (rip >= (u64)stub_word_begin && rip < (u64)stub_word_end) {
      gregs[G_RIP] = (u64)stub_word_fault;
      return;
    }
    if ((rip >= (u64)stub_bring_path_begin && rip < (u64)stub_bring_path_end) ||
        (rip >= (u64)stub_bring_struct_begin && rip < (u64)stub_bring_struct_end)) {
      gregs[G_RIP] = (u64)stub_bring_nothing;
      return;
    }
    if (signo == 31 && rip == (u64)stub_take_frame_ip) {
      gregs[G_RIP] = SLOT64(slot, RETURN);
      gregs[G_RAX] = SLOT64(slot, NR);
      kind = FRAME_TAKEN;
    } else if (signo == 31 && rip == (u64)stub_sigreturn_ask_ip) {
      gregs[G_RIP] = SLOT64(slot, RETURN);
      SLOT64(slot, NR) = NR_SIGRETURN;
      kind = SYSCALL;
    }
  } else if (signo == 31 && info->nr_low == NR_SIGPROCMASK && info->arch == ARCH && SLOT64(slot, MASK) & MASK_TRAPS &&
             ++HEAD64(MASKS_TRAPPED) % MASKS_SHOWN) {
    gregs[G_RCX] = rip; /* as from a patched call site */
    gregs[G_RIP] = (u64)stub_local_mask;
    return;
  } else if (signo == 31 && info->nr_low == NR_SIGRETURN && info->arch == ARCH && SLOT64(slot, MASK) & MASK_SHARED) {
    gregs[G_RCX] = rip;
    gregs[G_RIP] = (u64)stub_local_sigreturn;
    return;
  } else if (signo == 31 && info->arch == ARCH && SLOT32(slot, TRAPS_LEFT) && stub_trapped(slot, info->nr_low, gregs)) {
    return;
  } else if (signo == 31) {
    kind = SYSCALL;
    if (HEAD64(AHEAD)) stub_drop_ahead(slot, info->arch == ARCH ? info->nr_low : (u32)NO_NR, gregs[G_RDX] != 0);
    SLOT64(slot, NR) = info->nr_low | (u64)(info->arch != ARCH) << 32;
    if (info->nr_low == NR_EXIT && info->arch == ARCH) stub_looks_at_robust_list(slot);
    SLOT64(slot, ARGS + 0) = gregs[8];   /* rdi */
    SLOT64(slot, ARGS + 8) = gregs[9];   /* rsi */
    SLOT64(slot, ARGS + 16) = gregs[12]; /* rdx */
    SLOT64(slot, ARGS + 24) = gregs[2];  /* r10 */
    SLOT64(slot, ARGS + 32) = gregs[0];  /* r8 */
    SLOT64(slot, ARGS + 40) = gregs[1];  /* r9 */
  } else if (signo == KICK_SIGNAL) {
    kind = INTERRUPTED;
  }
  copy_frame(slot, uc, 0);
  if (kind == FAULT) {
    SLOT32(slot, SIGNO) = signo;
    SLOT32(slot, SIGCODE) = info->code;
    SLOT64(slot, SIGADDR) = info->addr;
  }
  u64 fs;
  __asm__ volatile("rdfsbase %0" : "=r"(fs));
  SLOT64(slot, FS_BASE) = fs;
  SLOT64(slot, UCONTEXT) = uc;
  post(slot, kind);
  stub_resume(slot, uc);
  if (HEAD64(OPENED_KNOWN)) stub_note_opened();
}

/* The first process's own entry, called once by the Sentry's forked child before anything is sealed: leave the old address
 * space, install handlers and the filter, then wait for commands. `setup` lies in the slot's BUFFER. */
struct setup {
  u64 unmap[8];          /* four (address, length) ranges: all but the stub's and the vDSO */
  u64 rseq, rseq_length; /* the C library's registration, 0: none */
  u64 filter_length;     /* of the BPF program */
  u64 filter;            /* its address (in the slot) */
  u64 result;            /* out: listener fd, or negative errno */
  u64 death_signal;      /* ask for it with PR_SET_PDEATHSIG */
};
extern i64 stub_setup_call(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
extern char stub_restorer[], stub_signal_entry[];
extern void stub_enter(u64 slot, u64 uc) __attribute__((noreturn));

void stub_main(u64 slot, u64 uc) {
  volatile struct setup *s = (volatile struct setup *)(slot + BUFFER);
  if (s->rseq) stub_setup_call(334, s->rseq, s->rseq_length, 1, 0x53053053, 0, 0);
  stub_setup_call(273, 0, 24, 0, 0, 0, 0); /* set_robust_list */
  stub_setup_call(218, 0, 0, 0, 0, 0, 0);  /* set_tid_address */
  for (int k = 0; k < 8; k += 2)
    if (s->unmap[k + 1]) stub_setup_call(11, s->unmap[k], s->unmap[k + 1], 0, 0, 0, 0);
  static const unsigned char handled[] = {4, 5, 7, 8, 11, 31, KICK_SIGNAL};
  for (int n = 1; n <= 64; n++) {
    u64 action[4] = {0, 0, 0, 0};
    for (unsigned k = 0; k < sizeof handled; k++)
      if (handled[k] == n) {
        action[0] = (u64)stub_signal_entry;
        action[1] = 4 | 0x08000000 | 0x10000000 | 0x04000000; /* SIGINFO ONSTACK RESTART RESTORER */
        action[2] = (u64)stub_restorer;
        action[3] = ~(BIT(SIGNAL_SEGV) | BIT(SIGNAL_BUS)); /* the handler's own copies may fault */
      }
    stub_setup_call(13, n, (u64)action, 0, 8, 0, 0);
  }
  u64 all = ~0ul; /* until a frame is returned to */
  stub_setup_call(14, 2, (u64)&all, 0, 8, 0, 0);
  if (s->death_signal) stub_setup_call(157, 1, s->death_signal, 0, 0, 0, 0);
  i64 failed = stub_setup_call(157, 38, 1, 0, 0, 0, 0); /* no_new_privs */
  if (!failed) {
    struct { unsigned short length; u64 filter; } program = {(unsigned short)s->filter_length, s->filter};
    /* NEW_LISTENER | WAIT_KILLABLE_RECV */
    failed = stub_setup_call(317, 1, 8 | 32, (u64)&program, 0, 0, 0);
  }
  s->result = (u64)failed;
  SLOT64(slot, UCONTEXT) = uc;
  post(slot, OPS_DONE);
  stub_enter(slot, uc);
}

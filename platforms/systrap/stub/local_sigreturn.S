/* rt_sigreturn(2) with no event to the Sentry: the way back from a signal handler, after one trap. stub_handler sends the
 * thread here while the mask stands in the slot (local_mask.S): then no signal is pending, and the mask that the frame gives
 * back can be put there. What else the Sentry would do is done here if it is plain: the alternate stack is still the one
 * that the frame names, the floating-point image is whole and of the host's own size, and no flag stops the next
 * instruction. Everything else is asked.
 *
 * All registers but rsp are about to be replaced, so they are free. Until the last jump everything can be done again, for
 * the frame stays as it is: a kick, or a fault (of the frame, or of XRSTOR at a bad image), makes it an ordinary call. */
#include "layout.h"
#include "local.h"

#define FLAGS_OF_MASK (MASK_SHARED | MASK_TRAPS)
#define PLAIN_FLAGS 0xcd5      /* CF PF AF ZF SF DF OF */
#define STOPPING_FLAGS 0x40100 /* AC TF */
/* struct ucontext, from rbx */
#define UC_STACK 16
#define UC_REGS 40
#define UC_EFLAGS (UC_REGS + 17 * 8)
#define UC_FPSTATE 224
#define UC_SIGMASK 296
/* struct _fpx_sw_bytes and the XSAVE header, in the image at rsi */
#define FX_MAGIC1 464
#define FX_XFEATURES 472
#define FX_XSTATE_SIZE 480
#define XSTATE_BV 512
#define XCOMP_BV 520

  .section .text.local, "ax"

/* rsp = the ucontext of the frame, rcx = behind the guest's own system-call instruction. */
  .globl stub_local_sigreturn
  .balign 64
stub_local_sigreturn:
  mov %rcx, %gs:RETURN
  mov %rsp, %gs:SAVED_RSP
sigreturn_begin:
  mov %rsp, %rbx
  mov UC_STACK(%rbx), %rax
  cmp %rax, %gs:ALT_SP
  jne sigreturn_ask
  mov UC_STACK+8(%rbx), %eax
  cmp %eax, %gs:ALT_FLAGS
  jne sigreturn_ask
  mov UC_STACK+16(%rbx), %rax
  cmp %rax, %gs:ALT_SIZE
  jne sigreturn_ask
  mov UC_EFLAGS(%rbx), %r8
  test $STOPPING_FLAGS, %r8d
  jnz sigreturn_ask

  mov UC_FPSTATE(%rbx), %rsi
  test %rsi, %rsi
  jz sigreturn_ask
  cmpl $FP_MAGIC1, FX_MAGIC1(%rsi)
  jne sigreturn_ask
  mov %gs:XSTATE_SIZE, %edi
  test %edi, %edi
  jz sigreturn_ask
  cmp %edi, FX_XSTATE_SIZE(%rsi)
  jne sigreturn_ask
  cmpl $FP_MAGIC2, (%rsi,%rdi)
  jne sigreturn_ask
  mov FX_XFEATURES(%rsi), %rdx
  not %rdx
  and XSTATE_BV(%rsi), %rdx    /* more than it says, */
  or XCOMP_BV(%rsi), %rdx      /* or compacted; both must be 0 */
  jnz sigreturn_ask
  mov $-1, %eax                /* what is not in the image gets its initial state, as Linux does it */
  mov $-1, %edx
  xrstor64 (%rsi)

  mov $16, %ecx                /* r8 to rip, where they can be loaded from without a register */
1: mov UC_REGS(%rbx,%rcx,8), %rax
  mov %rax, %gs:REGS(,%rcx,8)
  dec %ecx
  jns 1b

  mov UC_SIGMASK(%rbx), %rcx
  and $~FLAGS_OF_MASK, %rcx
  mov %gs:MASK, %rax
  test $MASK_SHARED, %eax
  jz sigreturn_ask
  mov %eax, %edx
  and $FLAGS_OF_MASK, %edx
  or %rcx, %rdx
  lock cmpxchg %rdx, %gs:MASK
  jne sigreturn_ask

  mov %gs:SELF, %rsp           /* the guest's stack is its own; the slot's is free */
  add $SLOT_SIZE, %rsp
  pushfq
  pop %rax
  and $~PLAIN_FLAGS, %eax
  and $PLAIN_FLAGS, %r8d
  or %r8, %rax
  push %rax
  popfq
  mov %gs:REGS, %r8
  mov %gs:REGS+8, %r9
  mov %gs:REGS+16, %r10
  mov %gs:REGS+24, %r11
  mov %gs:REGS+32, %r12
  mov %gs:REGS+40, %r13
  mov %gs:REGS+48, %r14
  mov %gs:REGS+56, %r15
  mov %gs:REGS+64, %rdi
  mov %gs:REGS+72, %rsi
  mov %gs:REGS+80, %rbp
  mov %gs:REGS+88, %rbx
  mov %gs:REGS+96, %rdx
  mov %gs:REGS+104, %rax
  mov %gs:REGS+112, %rcx
  mov %gs:REGS+120, %rsp
  jmp *%gs:REGS+128
sigreturn_ask_first:
  mov %rcx, %gs:RETURN
  mov %rsp, %gs:SAVED_RSP
sigreturn_ask:
  mov %gs:SAVED_RSP, %rsp
  mov $15, %eax
  syscall                      /* always traps: the handler reports the call as from where it came */
  .globl stub_sigreturn_ask_ip
stub_sigreturn_ask_ip:
  ud2
  STRETCH stub_local_sigreturn, sigreturn_begin, sigreturn_ask_first
  STRETCH sigreturn_begin, sigreturn_ask_first, sigreturn_ask

  .section .note.GNU-stack, "", @progbits

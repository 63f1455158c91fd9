/* From an ended program to the next: the host process of one goes on as an empty address space for another. What it must
 * be like then, and who may: platforms/systrap/recycling.py.
 *
 * Two calls tell the Sentry where this thread is; neither does anything. Up to the first a guest may have come here
 * by itself, with registers, flags, signal stack and memory of its choice. From there to the second nothing is read but
 * this text and the slot, which the Sentry has cleared and written meanwhile; no stack is used, and a signal ends the process
 * (stub_handler), for it would come on a stack of the guest's. */
#include "layout.h"

  .section .text.recycle, "ax"

/* An mmap without length: it is there to be noticed. */
.macro call_nothing
  mov $9, %eax
  xor %edi, %edi
  xor %esi, %esi
  xor %edx, %edx
  mov $0x22, %r10d            /* MAP_PRIVATE, MAP_ANONYMOUS */
  xor %r8d, %r8d
  xor %r9d, %r9d
  syscall
.endm

  .globl stub_recycle, stub_recycle_ip, stub_recycle_close_ip, stub_recycled, stub_recycled_ip
  .globl stub_recycle_begin, stub_recycle_end
stub_recycle_begin:
stub_recycle:
  lea 1f(%rip), %r15
  jmp wipe                    /* the memory is free from here on, if this is an honest stub */
1:
  call_nothing
stub_recycle_ip:
  test %rax, %rax
  jnz stub_exit               /* refused, or there is no Sentry any more */
  lea 2f(%rip), %r15
  jmp wipe                    /* and now it surely is */
2:
  movabs $(STUB_BASE + SLOTS), %rbx
  mov BUFFER(%rbx), %ebp      /* the numbers under which files may have been handed in, */
  mov BUFFER+4(%rbx), %r13d   /* and a bit for each whose file the next program may have as well */
  lea RECYCLED_FDS(%rbp), %r12d
3:
  shr %r13d
  jc 4f
  mov $3, %eax
  mov %ebp, %edi
  syscall
stub_recycle_close_ip:
4:
  inc %ebp
  cmp %r12d, %ebp
  jb 3b
  lea FRESH_FRAME(%rbx), %rsp
  jmp stub_sigreturn          /* to stub_recycled, with flags, signal mask, signal stack and registers of the frame */

/* munmap of all that is not the stub's or the vDSO's; on to r15. */
wipe:
  xor %edi, %edi
  movabs $STUB_BASE, %rsi
  mov $11, %eax
  syscall
  .globl stub_wipe_low_ip, stub_wipe_middle_ip, stub_wipe_high_ip
stub_wipe_low_ip:
  test %rax, %rax
  jnz stub_exit
  movabs $STUB_END, %rdi
  mov stub_vdso(%rip), %rsi
  sub %rdi, %rsi
  mov $11, %eax
  syscall
stub_wipe_middle_ip:
  test %rax, %rax
  jnz stub_exit
  mov stub_vdso+8(%rip), %rdi
  movabs $(USER_END), %rsi
  sub %rdi, %rsi
  mov $11, %eax
  syscall
stub_wipe_high_ip:
  test %rax, %rax
  jnz stub_exit
  jmp *%r15

/* What a frame does not set. */
stub_recycled:
  xor %eax, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  wrfsbase %rax
  movabs $(STUB_BASE + SLOTS), %rbx
  wrgsbase %rbx
  push $2                     /* the flags that a program may change and rt_sigreturn leaves alone */
  popf
  call_nothing
stub_recycled_ip:
  cmp $-22, %rax              /* what the host says of it, when the Sentry lets it go on */
  jne stub_exit
  mov %rbx, %rdi
  lea FRESH_FRAME(%rbx), %rsi
  jmp stub_enter
stub_recycle_end:

  .globl stub_vdso
  .balign 8
stub_vdso: .quad 0, 0         /* where vvar begins and the vDSO ends: filled in by the Sentry before anything runs */

  .section .note.GNU-stack, "", @progbits

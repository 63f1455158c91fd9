/* Where control enters and leaves the stub. Every `syscall` instruction of the stub stands here, each followed by a label:
 * the seccomp filter compares the instruction pointer with these labels (filter.py). The table at the very beginning gives
 * their addresses to Python (stub_image.py). */
#include "layout.h"

#define ADDRESS(off) (STUB_BASE + GLOBAL + off)

  .section .text.entry, "ax"
  .globl stub_table
stub_table:
  .quad stub_main_entry, stub_fast_entry, stub_child_entry
  .quad stub_futex_ip, stub_ring_ip, stub_sigreturn_ip, stub_exit_ip, stub_close_ip
  .quad stub_op_ip, stub_clone_ip, stub_child_region_ip, stub_hello_ip, stub_take_frame_ip
  .quad stub_text_end, stub_setup_ip, stub_fast_buffer_entry, stub_fast_path_entry, stub_yield_ip
  .quad stub_any_entry, stub_local_read, stub_local_write, stub_local_pread, stub_local_pwrite
  .quad stub_answer_epoll_wait, stub_answer_epoll_pwait, stub_answer_fstat, stub_answer_fstatat
  .quad stub_local_mmap, stub_local_munmap, stub_map_ip, stub_unmap_ip, stub_map_undo_ip
  .quad stub_local_madvise, stub_advise_ip, stub_local_mask, stub_sigreturn_ask_ip
  .quad stub_local_sendto, stub_local_recvfrom
  .quad stub_local_poll, stub_local_select, stub_local_pselect6, stub_local_ppoll
  .quad stub_wipe_low_ip, stub_wipe_middle_ip, stub_wipe_high_ip
  .quad stub_recycle_ip, stub_recycle_close_ip, stub_recycled, stub_recycled_ip, stub_vdso
  .quad stub_fast_struct_entry, stub_brings, stub_local_robust_list, stub_ring_wait_ip
  .quad stub_keep_ip, stub_give_ip
  .quad 0

/* --- from a patched call site: rax = number, rcx = where to go on, arguments in their registers. No stack may be touched
 * (the red zone is the guest's), only rax, rcx and r11 may change. GS base is the slot. --- */
  .globl stub_fast_entry, stub_fast_buffer_entry, stub_fast_path_entry, stub_fast_event
  .balign 64
/* write(2)'s shape: bring the buffer in rsi along when it is small, so that the Sentry need not fetch it. */
stub_fast_buffer_entry:
  mov %rcx, %gs:RETURN
  cmp $IN_BUFFER_MAX, %rdx
  ja stub_fast_common
  mov %rdi, %gs:ARGS
  mov %rsi, %gs:ARGS+8
  mov %gs:SELF, %rdi
  add $IN, %rdi
  mov %rdx, %rcx
  .globl stub_bring_begin, stub_bring_end, stub_bring_fault
stub_bring_begin:
  rep movsb
  mov %rdx, %gs:IN_LENGTH
stub_bring_end:
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  jmp stub_fast_brought
stub_bring_fault:
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  jmp stub_fast_common

/* A path name in rdi (stat) or rsi (the *at calls; then rax says so in bit 31): bring it along up to its NUL. */
  .balign 16
stub_fast_path_entry:
  mov %rcx, %gs:RETURN
  mov %rdi, %gs:ARGS
  mov %rsi, %gs:ARGS+8
  btr $31, %eax
  mov %rax, %gs:NR
  jc 1f
  mov %rdi, %rsi
1: mov %gs:SELF, %rdi
  add $IN, %rdi
  mov $IN_SIZE, %ecx
stub_bring_path_begin:
2: lodsb
  stosb
  test %al, %al
  jz 3f
  dec %ecx
  jnz 2b
  jmp stub_bring_nothing
3: mov $IN_SIZE+1, %eax
  sub %ecx, %eax
  mov %rax, %gs:IN_LENGTH
  .globl stub_bring_path_begin, stub_bring_path_end, stub_bring_nothing
stub_bring_path_end:
  mov %gs:NR, %rax
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  jmp stub_fast_brought
/* A fault, or too much: the call is asked for as it is. */
stub_bring_nothing:
  mov %gs:NR, %rax
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  jmp stub_fast_common

/* One of the calls in stub_brings: bring along the structure that one of its arguments points to, if it points anywhere. */
  .globl stub_fast_struct_entry
  .balign 16
stub_fast_struct_entry:
  cmp $BRINGS_COUNT, %eax
  jae stub_fast_entry
  lea stub_brings(%rip), %r11
  movzbl (%r11,%rax), %r11d
  test %r11d, %r11d
  jz stub_fast_entry
  mov %rcx, %gs:RETURN
  mov %rdi, %gs:ARGS
  mov %rsi, %gs:ARGS+8
  mov %rdx, %gs:ARGS+16
  mov %r10, %gs:ARGS+24
  mov %r8, %gs:ARGS+32
  mov %r9, %gs:ARGS+40
  mov %rax, %gs:NR
  mov %r11d, %ecx
  and $BRINGS_ARGUMENT, %r11d
  shr $BRINGS_SHIFT, %ecx
  cmp $BRINGS_POLLFDS, %ecx
  jae 2f
1: mov %gs:ARGS-8(,%r11,8), %rsi
  cmp $0x10000, %rsi          /* nothing is mapped below: mostly NULL */
  jb stub_bring_nothing
  mov %gs:SELF, %rdi
  add $IN, %rdi
  lea (,%rcx,4), %eax
  mov %rax, %gs:IN_LENGTH
  add $(STRUCT_BROUGHT - 1), %r11d
  mov %r11d, %gs:KIND
  .globl stub_bring_struct_begin, stub_bring_struct_end
stub_bring_struct_begin:
  rep movsl
stub_bring_struct_end:
  mov %gs:NR, %rax
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  jmp stub_fast_event
2: mov %gs:ARGS(,%r11,8), %rax
  jne 3f
  lea (,%rax,2), %rcx
  dec %rax
  cmp $(IN_BUFFER_MAX / 8), %rax
  jb 1b
  jmp stub_bring_nothing
3: lea (,%rax,4), %rcx
  dec %rax
  cmp $(IN_BUFFER_MAX / 16), %rax
  jb 1b
  jmp stub_bring_nothing

/* By number: which argument points to a structure that comes along (from 1 on; 0: none does), and above that how many
 * u32 it has; BRINGS_VECTORS, BRINGS_POLLFDS: the next argument says how many struct iovec or pollfd. */
  .globl stub_brings
.macro BRINGS number argument words
  .org stub_brings + \number
  .byte \argument | \words << BRINGS_SHIFT
.endm
stub_brings:
  BRINGS 7 1 BRINGS_POLLFDS   /* poll */
  BRINGS 19 2 BRINGS_VECTORS  /* readv */
  BRINGS 20 2 BRINGS_VECTORS  /* writev */
  BRINGS 35 1 4               /* nanosleep: struct timespec */
  BRINGS 38 2 8               /* setitimer: struct itimerval */
  BRINGS 40 3 2               /* sendfile: the offset */
  BRINGS 43 3 1               /* accept: how long an address may be */
  BRINGS 46 2 14              /* sendmsg: struct msghdr */
  BRINGS 47 2 14              /* recvmsg */
  BRINGS 51 3 1               /* getsockname: as accept */
  BRINGS 52 3 1               /* getpeername */
  BRINGS 54 4 1               /* setsockopt: mostly an int */
  BRINGS 55 5 1               /* getsockopt: how long the value may be */
  BRINGS 230 3 4              /* clock_nanosleep */
  BRINGS 233 4 3              /* epoll_ctl: struct epoll_event */
  BRINGS 271 1 BRINGS_POLLFDS /* ppoll */
  BRINGS 286 3 8              /* timerfd_settime: struct itimerspec */
  BRINGS 288 3 1              /* accept4 */
  .org stub_brings + BRINGS_COUNT

  .balign 16
stub_fast_entry:
  mov %rcx, %gs:RETURN
stub_fast_common:
  cmp $202, %eax
  je stub_fast_futex
stub_fast_post:
  movl $SYSCALL_FAST, %gs:KIND
stub_fast_event:
  mov %rax, %gs:NR
  mov %rdi, %gs:ARGS
  mov %rsi, %gs:ARGS+8
  mov %rdx, %gs:ARGS+16
  mov %r10, %gs:ARGS+24
  mov %r8, %gs:ARGS+32
  mov %r9, %gs:ARGS+40
  mov $READY, %eax
  xchg %eax, %gs:STATE
  movabs $ADDRESS(ARMED), %rax
  mov (%rax), %rcx            /* ARMED below, SPIN above: one load */
  test %ecx, %ecx
  jnz fast_slow
  shr $32, %rcx
1: cmpl $READY, %gs:STATE
  jne 2f
  pause
  dec %ecx
  jg 1b
  jmp fast_slow
2: cmpl $RETURN_NOW, %gs:STATE
  jne 3f
  mov %gs:RETURN, %rcx
  mov %gs:RESULT, %rax
  jmp *%rcx
3: cmpl $COPY_NOW, %gs:STATE
  jne fast_slow
  mov %rsp, %gs:SAVED_RSP
  jmp fast_copy

stub_fast_brought:
  movl $SYSCALL_BROUGHT, %gs:KIND
  jmp stub_fast_event

/* futex(2): bring the word along. It is as good as one that the Sentry reads when it serves the call, as long as no
 * wake-up was served in between: WAKES, read first, tells. */
stub_fast_futex:
  movq $0, %gs:WORD
  movabs $ADDRESS(WAKES), %rcx
  mov (%rcx), %ecx
  .globl stub_word_begin, stub_word_end, stub_word_fault
stub_word_begin:
  mov (%rdi), %r11d
stub_word_end:
  mov %r11d, %gs:WORD
  mov %ecx, %gs:WORD_WAKES
stub_word_fault:
  jmp stub_fast_post

/* Whatever takes longer: on the slot's signal stack, in C. */
fast_slow:
  mov %rsp, %gs:SAVED_RSP
  mov %gs:SELF, %rsp
  add $SLOT_SIZE, %rsp
  movabs $ADDRESS(ARMED), %rax
  cmpl $0, (%rax)
  je 1f
  cmpl $READY, %gs:STATE
  jne 1f
  call stub_ring
1: mov %gs:SELF, %rdi
  call stub_serve
  cmp $COMMAND_COPY_OUT, %eax
  je fast_copy
fast_return:
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  mov %gs:ARGS+16, %rdx
  mov %gs:ARGS+24, %r10
  mov %gs:ARGS+32, %r8
  mov %gs:ARGS+40, %r9
  mov %gs:SAVED_RSP, %rsp
  cmp $COMMAND_TAKE_FRAME, %eax
  je fast_take_frame
  mov %gs:RETURN, %rcx
  mov %gs:RESULT, %rax
  jmp *%rcx
fast_take_frame:
  mov %gs:NR, %rax
  syscall                     /* always traps: the handler reports FRAME_TAKEN, going on at RETURN */
  .globl stub_take_frame_ip
stub_take_frame_ip:
  ud2

fast_copy:
  mov %gs:COPY_RESULT, %rax
  mov %rax, %gs:RESULT
  mov %gs:COPY_TO, %rdi
  mov %gs:SELF, %rsi
  add $COPY_DATA, %rsi
  mov %gs:COPY_LENGTH, %rcx
  .globl stub_copy_begin, stub_copy_end, stub_copy_fault
stub_copy_begin:
  rep movsb
stub_copy_end:
  jmp 1f
stub_copy_fault:
  movq $-14, %gs:RESULT
1: xor %eax, %eax
  jmp fast_return

/* --- from the host kernel: a signal. rdi, rsi, rdx = signal, siginfo, ucontext; rsp -> frame. --- */
  .globl stub_signal_entry
stub_signal_entry:
  cld
  mov %rdx, %rbx
  sub $8, %rsp
  call stub_handler
  mov %rbx, %rsp
  jmp stub_sigreturn
  .globl stub_restorer, stub_sigreturn
stub_restorer:
stub_sigreturn:
  mov $15, %eax
  syscall
  .globl stub_sigreturn_ip
stub_sigreturn_ip:
  ud2

/* stub_enter(slot, uc): serve, then return through the frame at uc. */
  .globl stub_enter
stub_enter:
  mov %rsi, %rbx
  lea -256(%rsi), %rsp
  and $-16, %rsp
  call stub_resume
  mov %rbx, %rsp
  jmp stub_sigreturn

/* stub_park(slot): never back to where the thread came from. Away from its frames, then as the next task's. */
  .globl stub_park
stub_park:
  lea PARK_STACK(%rdi), %rsp
  call stub_parked
  mov %rax, %rsp
  jmp stub_sigreturn

/* stub_return(uc): through the frame there. */
  .globl stub_return
stub_return:
  mov %rdi, %rsp
  jmp stub_sigreturn

/* A thread that moved: rdi = the slot that it is in now, rsi = the one that it left. */
  .globl stub_arrive
stub_arrive:
  wrgsbase %rdi
  call stub_moved
  mov %rax, %rsp
  jmp stub_sigreturn

/* stub_main_entry(slot, uc): called by the Sentry's forked child. */
stub_main_entry:
  lea -256(%rsi), %rsp
  and $-16, %rsp
  wrgsbase %rdi
  call stub_main
  ud2

/* --- a new thread or process, straight after clone. No stack yet.
 *  rbx = new slot, rbp = its ucontext, r12 = offset of its region in the arena (negative: shares the address space),
 *  r13 = nonce. Each kind makes one call by which the Sentry learns who it is. --- */
  .globl stub_child_entry
stub_child_entry:
  test %r12, %r12
  js 1f
  mov $9, %eax                /* its own header and slots over its parent's */
  movabs $(STUB_BASE + HEADER), %rdi
  mov $REGION_SIZE, %esi
  mov $3, %edx
  mov $0x11, %r10d
  mov $ARENA_FD, %r8d
  mov %r12, %r9
  syscall
  .globl stub_child_region_ip
stub_child_region_ip:
  cmp %rdi, %rax
  jne stub_exit
  jmp 2f
1: mov $9, %eax               /* never carried out: the Sentry answers it */
  mov %rbx, %rdi
  mov %r13, %rsi
  xor %edx, %edx
  xor %r10d, %r10d
  mov $-1, %r8
  xor %r9d, %r9d
  syscall
  .globl stub_hello_ip
stub_hello_ip:
  test %rax, %rax
  jnz stub_exit
2: wrgsbase %rbx
  mov %rbx, %rdi
  mov %rbp, %rsi
  jmp stub_enter

  .globl stub_exit
stub_exit:
  mov $60, %eax
  xor %edi, %edi
  syscall
  .globl stub_exit_ip
stub_exit_ip:
  ud2

/* --- system calls as functions --- */
  .globl stub_futex_wait      /* (word, expected) */
stub_futex_wait:
  mov %esi, %edx
  xor %esi, %esi              /* FUTEX_WAIT, shared */
  xor %r10d, %r10d
  mov $202, %eax
  syscall
  .globl stub_futex_ip
stub_futex_ip:
  ret

  .globl stub_ring
stub_ring:
  lea one(%rip), %rsi
  mov $DOORBELL_FD, %edi
  mov $8, %edx
  mov $1, %eax
  syscall
  .globl stub_ring_ip
stub_ring_ip:
  ret

  .globl stub_yield           /* sched_yield: no argument, no result */
stub_yield:
  mov $24, %eax
  syscall
  .globl stub_yield_ip
stub_yield_ip:
  ret

  .globl stub_close
stub_close:
  mov $3, %eax
  syscall
  .globl stub_close_ip
stub_close_ip:
  ret

  .globl stub_op              /* (op): nr and six arguments */
stub_op:
  mov (%rdi), %rax
  mov 16(%rdi), %rsi
  mov 24(%rdi), %rdx
  mov 32(%rdi), %r10
  mov 40(%rdi), %r8
  mov 48(%rdi), %r9
  mov 8(%rdi), %rdi
  syscall
  .globl stub_op_ip
stub_op_ip:
  ret

/* (op): clone's five arguments in op[1..5]; the child's start values in op[8..11]. */
  .globl stub_clone
stub_clone:
  push %rbx
  push %rbp
  push %r12
  push %r13
  mov 64(%rdi), %rbx
  mov 72(%rdi), %rbp
  mov 80(%rdi), %r12
  mov 88(%rdi), %r13
  mov 16(%rdi), %rsi
  mov 24(%rdi), %rdx
  mov 32(%rdi), %r10
  mov 40(%rdi), %r8
  mov 8(%rdi), %rdi
  mov $56, %eax
  syscall
  .globl stub_clone_ip
stub_clone_ip:
  test %rax, %rax
  jz stub_child_entry
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

/* Only before the filter stands; kills afterwards. */
  .globl stub_setup_call
stub_setup_call:
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %rdx
  mov %r8, %r10
  mov %r9, %r8
  mov 8(%rsp), %r9
  syscall
  .globl stub_setup_ip
stub_setup_ip:
  ret

  .balign 8
one: .quad 1

  .section .note.GNU-stack, "", @progbits

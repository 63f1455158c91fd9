/* mmap(2) of private anonymous memory and munmap(2) of what was mapped last, with no event to the Sentry; and madvise(2)
 * that gives memory back.
 *
 * The Sentry grants an address space a gap: new mappings go to its upper end, as Linux's search would place them. Each is
 * an entry of the log in the header (layout.py MAP_*), which is a stack: munmap of the newest takes it away again. The
 * Sentry reads the log before it looks at the areas of the address space (its side is services/sentry/mm/local_maps.py).
 * A grant is one thread's: only while nobody else runs in the address space.
 *
 * Entered as the calls of local.S are, and as harmless: the host calls made here are those that the filter lets through by
 * their arguments alone (filter.py, is_direct), and the log concerns the guest's own address space; the Sentry checks it.
 *
 * A kick finds a call that can be begun anew as an ordinary one, up to the instruction that changes MAP_HEAD: then it is
 * done but for the jump. So the host's mmap comes before the entry, and who is interrupted in between takes the mapping
 * away again (map_undo); the host's munmap too, but there it does no harm to do it twice.
 *
 * What a page costs is getting it and giving it back. So the last mapping that is unmapped may be cleared and kept, with
 * no access to it (MAP_KEPT: how much lies there, just below what is mapped), for the next one, which goes there. Only
 * while new mappings are the stub's (MAP_LOW): after that something else may lie there. madvise is to be asked for then,
 * for the host does not know that nothing is mapped. */
#include "layout.h"
#include "local.h"

#define AT(offset) ((offset) - MAP_LOG)(%r11)
#define ENTRY(index) ((MAP_ENTRIES) - MAP_LOG)(%r11,index,8)
#define ENTRY_BEHIND(index) ((MAP_ENTRIES) - MAP_LOG + 8)(%r11,index,8)
#define NO_FLAGS ~0x24000       /* MAP_NORESERVE, MAP_STACK: as good as not there */
#define PRIVATE_ANONYMOUS 0x22

  .section .text.local, "ax"

.macro LOG
  movabs $(STUB_BASE + HEADER + MAP_LOG), %r11
.endm

/* rdi = 0: anywhere; rsi = length, rdx = protection, r10 = flags, r8 = descriptor (ignored), r9 = offset. */
  .globl stub_local_mmap, stub_map_ip, stub_map_undo_ip
  .balign 64
stub_local_mmap:
  test %rdi, %rdi
  jnz map_ask
  cmp $3, %rdx                /* not to be executed */
  ja map_ask
  mov %r10, %rax
  and $NO_FLAGS, %rax
  cmp $PRIVATE_ANONYMOUS, %rax
  jne map_ask
  test $0xfff, %r9d
  jnz map_ask
  lea -1(%rsi), %rax
  cmp $MAP_MAX, %rax
  jae map_ask                 /* nothing, or much */
  and $~0xfff, %rax
  add $0x1000, %rax
  LOG
  cmp AT(MAP_LEAST), %rax
  jb map_ask
  mov %rcx, %gs:RETURN
  mov %rsi, %gs:ARGS+8
  mov %r10, %gs:ARGS+24
map_place:
  movzwl AT(MAP_HEAD), %ecx
  cmp $MAP_MOST, %ecx
  jae map_back
  mov ENTRY(%rcx), %rdi
  and $~0xfff, %rdi
  mov AT(MAP_LOW), %rcx
  test %rcx, %rcx
  jz map_back
  sub %rax, %rdi
  jb map_back
  cmp %rcx, %rdi
  jb map_back
  mov %rdi, %gs:ARGS
  mov %rax, %gs:ARGS+16
  mov %rax, %rsi
  cmp AT(MAP_KEPT), %rax
  ja map_fresh
  cmp $3, %edx
  jne map_fresh
  mov $10, %eax
give_call:
  syscall
  .globl stub_give_ip
stub_give_ip:
  test %rax, %rax
  jnz map_undo
  mov %rdi, %rax
  jmp map_note
map_fresh:
  or $0x10, %r10              /* MAP_FIXED */
  mov $9, %eax
map_call:
  syscall
stub_map_ip:
  cmp %rdi, %rax
  jne map_undo
map_note:
  LOG
  mov AT(MAP_KEPT), %rcx      /* it takes the upper end of that, or all */
  sub %rsi, %rcx
  jae 1f
  xor %ecx, %ecx
1:
  mov %rcx, AT(MAP_KEPT)
  movzwl AT(MAP_HEAD), %ecx
  or %rdx, %rdi
  mov %rdi, ENTRY_BEHIND(%rcx)
  xor %edi, %edi
  mov %gs:ARGS+8, %rsi
  mov %gs:ARGS+24, %r10
  mov %gs:RETURN, %rcx
  addq $(1 << MAP_COUNT_BITS) + 1, AT(MAP_HEAD)
map_done:
  jmp *%rcx
map_undo:
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+16, %rsi
  mov $11, %eax
  syscall
stub_map_undo_ip:
map_back:
  xor %edi, %edi
  mov %gs:ARGS+8, %rsi
  mov %gs:ARGS+24, %r10
  mov %gs:RETURN, %rcx
map_ask:
  mov $9, %eax
  jmp stub_fast_entry
map_end:
  STRETCH stub_local_mmap, map_place, map_ask
  STRETCH map_place, give_call, map_back
  STRETCH give_call, map_fresh, map_undo
  STRETCH map_fresh, map_call, map_back
  STRETCH map_call, map_done, map_undo
  STRETCH map_done, map_undo, 0
  STRETCH map_undo, map_back, map_undo
  STRETCH map_back, map_ask, map_back
  STRETCH map_ask, map_end, map_ask

/* rdi = address, rsi = length. */
  .globl stub_local_munmap, stub_unmap_ip
  .balign 64
stub_local_munmap:
  mov %rcx, %gs:RETURN
unmap_find:
  LOG
  movzwl AT(MAP_HEAD), %ecx
  dec %ecx
  cmp $MAP_MOST, %ecx
  jae unmap_back              /* none, or nonsense */
  mov ENTRY_BEHIND(%rcx), %rax
  and $~0xfff, %rax
  cmp %rdi, %rax
  jne unmap_back
  mov ENTRY(%rcx), %rcx
  and $~0xfff, %rcx
  sub %rax, %rcx
  lea -1(%rsi), %rax
  cmp $MAP_MAX, %rax
  jae unmap_back
  and $~0xfff, %rax
  add $0x1000, %rax
  cmp %rax, %rcx
  jne unmap_back
  mov %rdi, %gs:ARGS
  mov %rsi, %gs:ARGS+8
  mov %rdx, %gs:ARGS+16
unmap_how:
  cmpq $0, AT(MAP_LOW)
  je unmap_call
  movzwl AT(MAP_HEAD), %ecx
  mov ENTRY(%rcx), %ecx
  not %ecx
  test $3, %ecx
  mov AT(MAP_KEPT), %rcx
  lea (%rax,%rcx), %rax       /* all that would be kept */
  jnz unmap_all               /* it cannot be written, nor cleared */
  cmp $MAP_KEPT_MAX, %rax
  ja unmap_all
  lea 0xfff(%rsi), %rcx
  and $~0xfff, %rcx
  add %rdi, %rcx
  xor %eax, %eax
clear:
  mov %rax, -8(%rcx)
  mov %rax, -16(%rcx)
  mov %rax, -24(%rcx)
  mov %rax, -32(%rcx)
  mov %rax, -40(%rcx)
  mov %rax, -48(%rcx)
  mov %rax, -56(%rcx)
  mov %rax, -64(%rcx)
  sub $64, %rcx
  cmp %rdi, %rcx
  ja clear
  xor %edx, %edx
  mov $10, %eax
  syscall
  .globl stub_keep_ip
stub_keep_ip:
  test %rax, %rax
  jnz unmap_restore
  mov %gs:ARGS+16, %rdx
  lea 0xfff(%rsi), %rcx
  and $~0xfff, %rcx
  LOG
  add %rcx, AT(MAP_KEPT)
  movq $0, AT(ADVISE_HIGH)
  jmp unmap_note
unmap_all:
  sub %rcx, %rdi
  mov %rax, %rsi
  movq $0, AT(MAP_KEPT)
unmap_call:
  mov $11, %eax
  syscall
stub_unmap_ip:
  test %rax, %rax
  jnz unmap_restore
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
unmap_note:
  mov %gs:RETURN, %rcx
  LOG
  addq $(1 << MAP_COUNT_BITS) - 1, AT(MAP_HEAD)
unmap_done:
  jmp *%rcx
unmap_restore:
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  mov %gs:ARGS+16, %rdx
unmap_back:
  mov %gs:RETURN, %rcx
unmap_ask:
  mov $11, %eax
  jmp stub_fast_entry
unmap_end:
  STRETCH stub_local_munmap, unmap_find, unmap_ask
  STRETCH unmap_find, unmap_how, unmap_back
  STRETCH unmap_how, unmap_done, unmap_restore
  STRETCH unmap_done, unmap_restore, 0
  STRETCH unmap_restore, unmap_back, unmap_restore
  STRETCH unmap_back, unmap_ask, unmap_back
  STRETCH unmap_ask, unmap_end, unmap_ask

/* madvise(2) with MADV_DONTNEED or MADV_FREE: rdi = address, rsi = length, edx = advice. What the host says is the answer,
 * where it has nothing mapped that is not the guest's. A kick makes it an ordinary call, which does it once more. */
  .globl stub_local_madvise, stub_advise_ip
  .balign 64
stub_local_madvise:
  mov %rcx, %gs:RETURN
advise_check:
  cmp $4, %edx
  je 1f
  cmp $8, %edx
  jne advise_back
1:
  LOG
  test $0xfff, %edi
  jnz advise_back
  cmp AT(ADVISE_LOW), %rdi
  jb advise_back
  mov AT(ADVISE_HIGH), %rax
  sub %rdi, %rax
  jbe advise_back
  cmp %rsi, %rax
  jb advise_back
  mov $28, %eax
  syscall
stub_advise_ip:
  mov %gs:RETURN, %rcx
advise_done:
  jmp *%rcx
advise_back:
  mov %gs:RETURN, %rcx
advise_ask:
  mov $28, %eax
  jmp stub_fast_entry
advise_end:
  STRETCH stub_local_madvise, advise_check, advise_ask
  STRETCH advise_check, advise_done, advise_back
  STRETCH advise_done, advise_back, 0
  STRETCH advise_back, advise_ask, advise_back
  STRETCH advise_ask, advise_end, advise_ask

  .section .note.GNU-stack, "", @progbits

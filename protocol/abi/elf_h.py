"""<linux/elf.h>, <linux/auxvec.h>: what an ELF loader for x86-64 reads and what the initial stack carries."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# e_type.
ET_NONE: Final[int] = 0
ET_REL: Final[int] = 1
ET_EXEC: Final[int] = 2
ET_DYN: Final[int] = 3
ET_CORE: Final[int] = 4

# e_machine.
EM_386: Final[int] = 3
EM_X86_64: Final[int] = 62
EM_AARCH64: Final[int] = 183

# p_type.
PT_NULL: Final[int] = 0
PT_LOAD: Final[int] = 1
PT_DYNAMIC: Final[int] = 2
PT_INTERP: Final[int] = 3
PT_NOTE: Final[int] = 4
PT_SHLIB: Final[int] = 5
PT_PHDR: Final[int] = 6
PT_TLS: Final[int] = 7
PT_GNU_EH_FRAME: Final[int] = 0x6474E550
PT_GNU_STACK: Final[int] = 0x6474E551
PT_GNU_RELRO: Final[int] = 0x6474E552
PT_GNU_PROPERTY: Final[int] = 0x6474E553

# p_flags.
PF_X: Final[int] = 1
PF_W: Final[int] = 2
PF_R: Final[int] = 4

# e_ident.
EI_NIDENT: Final[int] = 16
EI_CLASS: Final[int] = 4
ELFCLASSNONE: Final[int] = 0
ELFCLASS32: Final[int] = 1
ELFCLASS64: Final[int] = 2
EI_DATA: Final[int] = 5
ELFDATANONE: Final[int] = 0
ELFDATA2LSB: Final[int] = 1
ELFDATA2MSB: Final[int] = 2
EI_VERSION: Final[int] = 6
EI_OSABI: Final[int] = 7
ELFOSABI_NONE: Final[int] = 0
ELFOSABI_SYSV: Final[int] = 0
ELFOSABI_GNU: Final[int] = 3
ELFOSABI_LINUX: Final[int] = 3
EI_ABIVERSION: Final[int] = 8
EI_PAD: Final[int] = 9
EV_NONE: Final[int] = 0
EV_CURRENT: Final[int] = 1

# Auxiliary vector.
AT_NULL: Final[int] = 0
AT_IGNORE: Final[int] = 1
AT_EXECFD: Final[int] = 2
AT_PHDR: Final[int] = 3
AT_PHENT: Final[int] = 4
AT_PHNUM: Final[int] = 5
AT_PAGESZ: Final[int] = 6
AT_BASE: Final[int] = 7
AT_FLAGS: Final[int] = 8
AT_ENTRY: Final[int] = 9
AT_NOTELF: Final[int] = 10
AT_UID: Final[int] = 11
AT_EUID: Final[int] = 12
AT_GID: Final[int] = 13
AT_EGID: Final[int] = 14
AT_CLKTCK: Final[int] = 17
AT_PLATFORM: Final[int] = 15
AT_HWCAP: Final[int] = 16
AT_DCACHEBSIZE: Final[int] = 19
AT_ICACHEBSIZE: Final[int] = 20
AT_UCACHEBSIZE: Final[int] = 21
AT_IGNOREPPC: Final[int] = 22
AT_SECURE: Final[int] = 23
AT_BASE_PLATFORM: Final[int] = 24
AT_RANDOM: Final[int] = 25
AT_HWCAP2: Final[int] = 26
AT_RSEQ_FEATURE_SIZE: Final[int] = 27
AT_RSEQ_ALIGN: Final[int] = 28
AT_EXECFN: Final[int] = 31
AT_SYSINFO: Final[int] = 32
AT_SYSINFO_EHDR: Final[int] = 33
AT_MINSIGSTKSZ: Final[int] = 51

# Notes.
NT_PRSTATUS: Final[int] = 1
NT_PRFPREG: Final[int] = 2
NT_PRPSINFO: Final[int] = 3
NT_AUXV: Final[int] = 6
NT_SIGINFO: Final[int] = 1397311305
NT_FILE: Final[int] = 1179208773
NT_X86_XSTATE: Final[int] = 514
NT_GNU_ABI_TAG: Final[int] = 1
NT_GNU_HWCAP: Final[int] = 2
NT_GNU_BUILD_ID: Final[int] = 3
NT_GNU_GOLD_VERSION: Final[int] = 4
NT_GNU_PROPERTY_TYPE_0: Final[int] = 5

ELF_MAGIC: Final[bytes] = b"\x7fELF"

# Elf64_Ehdr: e_ident, e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum,
# e_shentsize, e_shnum, e_shstrndx.
EHDR: Final = layout("Elf64_Ehdr", "16sHHIQQQIHHHHHH", 64)
# Elf64_Phdr: p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
PHDR: Final = layout("Elf64_Phdr", "IIQQQQQQ", 56)
# Elf64_Shdr: sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize.
SHDR: Final = layout("Elf64_Shdr", "IIQQQQIIQQ", 64)
# Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size.
SYM: Final = layout("Elf64_Sym", "IBBHQQ", 24)
# Elf64_Dyn: d_tag, d_val.
DYN: Final = layout("Elf64_Dyn", "qQ", 16)
# Elf64_auxv_t: a_type, a_val.
AUXV: Final = layout("Elf64_auxv_t", "QQ", 16)

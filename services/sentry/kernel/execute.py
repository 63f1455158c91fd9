"""execve(2): find the program, check it, build its address space, put the task into it.

Everything that may fail with an error is done before the point of no return; after it a failure kills the process, as
on Linux. Pure parts: loader/elf.py, loader/script.py, loader/initial_stack.py. The new memory is a fork of the
platform's pristine process, filled by operations posted to its one context; what the new image is to contain is worked
out while they are carried out, and the task moves over when all is there.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from platforms.base import Op
from protocol.abi import mman_h as mm_h
from services.sentry.errors import LinuxError
from services.sentry.kernel.credentials import for_exec
from services.sentry.kernel.exits import begin_exec, complete_exec, complete_vfork, exit_group, kill_other_threads
from services.sentry.kernel.first_paths import foretell
from services.sentry.kernel.guest_ops import let_start, publish
from services.sentry.kernel.waiter import NO_RETURN, Complete, NoReturn, Outcome, StubOp
from services.sentry.loader import elf, initial_stack, script
from services.sentry.mm.address_space import PAGE, AddressSpace, Record, page_up
from services.sentry.mm.vma_set import ADDRESS_END
from services.sentry.vfs import permissions
from services.sentry.vfs.path_walk import find

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.inode import Donated
    from services.sentry.vfs.open_file import OpenFile
    from services.sentry.vfs.path_walk import Path

__all__ = ["execute", "start_init"]

_MAX_SCRIPTS: Final = 5
_MS_NOSUID, _MS_NOEXEC = 2, 8
_SIGKILL, _SIGSEGV = 9, 11
_MAX_OPS: Final = 24
_NEAR: Final = 4096  # bytes read at a time where argument strings lie
_NEAR_IN_A_ROW: Final = 0x8000  # the same, when it seems that they follow each other
_PIE_BASE: Final = 0x5555_5555_4000
_STACK_MAX: Final = 1 << 30
_STACK_DEFAULT: Final = 8 << 20
_ARG_FACTOR: Final = 4  # argv and envp may take a quarter of the stack limit
_PRIVATE: Final = mm_h.MAP_PRIVATE | mm_h.MAP_FIXED
_ANONYMOUS: Final = _PRIVATE | mm_h.MAP_ANONYMOUS
_NO_FD: Final = 0xFFFFFFFFFFFFFFFF
MAX_ARG_STRLEN: Final = 32 * PAGE
_ARRAYS_NEAR: Final = 0x2000  # argv and envp no further from each other are looked for in one copy,
_BLOCK: Final = 0x3000  # of so many bytes: the environment is where the stack begins, and often the array near it
_AT_ONCE: Final = 16  # pointers
_POINTERS: Final = struct.Struct(f"<{_AT_ONCE}Q")


class _Program:
    """What is to be run, all checked."""

    __slots__ = ("argv", "cred", "envp", "file", "image", "interpreter", "interpreter_file", "name", "path", "secure")

    file: OpenFile
    image: elf.ElfImage
    path: Path

    def __init__(self, name: bytes, argv: list[bytes], envp: list[bytes]) -> None:
        self.name = name
        self.argv = argv
        self.envp = envp
        self.interpreter: elf.ElfImage | None = None
        self.interpreter_file: OpenFile | None = None
        self.secure = False
        self.cred: Credentials | None = None

    def close(self) -> None:
        for file in (getattr(self, "file", None), self.interpreter_file):
            if file is not None:
                file.close_reference()


# --- finding and checking ---
def _open(task: Task, path: Path) -> OpenFile:
    """The file for reading its image. EACCES: not a regular file, not executable, a noexec mount. ETXTBSY: written."""
    inode = path.dentry.inode
    assert inode is not None
    if not inode.is_regular or path.mount.flags & _MS_NOEXEC:
        raise LinuxError(errno.EACCES)
    permissions.check(inode, task.cred, permissions.EXECUTE)
    if inode.writers:
        raise LinuxError(errno.ETXTBSY)
    file = inode.open(path.dentry, 0, task)
    if file.path is None:
        file.path = path
    return file.add_reference()


def _read_image(file: OpenFile, head: bytes) -> elf.ElfImage:
    offset, size = elf.headers_needed(head)
    headers = head[offset : offset + size] if offset + size <= len(head) else file.pread(size, offset)
    return elf.parse_untrusted(head[: elf.HEADER_SIZE], headers, file.inode.size)


def _prepare(task: Task, path: Path, name: bytes, argv: list[bytes], envp: list[bytes]) -> _Program:
    """Resolve scripts and the ELF interpreter. Errors as execve(2)."""
    program = _Program(name, argv, envp)
    cred_mode, cred_uid, cred_gid = 0, 0, 0
    for _ in range(_MAX_SCRIPTS):
        file = _open(task, path)
        try:
            head = file.pread(4096, 0)
            parsed = script.parse(head)
            if parsed is None:
                program.file, program.path = file, path
                program.image = _read_image(file, head)
                inode = file.inode
                cred_mode, cred_uid, cred_gid = inode.mode, inode.uid, inode.gid
                break
        except LinuxError:
            file.close_reference()
            raise
        file.close_reference()
        interpreter, argument = parsed
        program.argv = [interpreter, *([argument] if argument is not None else []), program.name, *program.argv[1:]]
        program.name = interpreter
        path = find(task, interpreter)
    else:
        raise LinuxError(errno.ELOOP)
    try:
        if program.image.interpreter is not None:
            _open_interpreter(task, program, head)
        if path.mount.flags & _MS_NOSUID:
            cred_mode &= 0o1777
        program.cred = for_exec(task.cred, cred_uid, cred_gid, cred_mode, task.no_new_privs)
        program.secure = program.cred.euid != task.cred.ruid or program.cred.egid != task.cred.rgid
    except LinuxError:
        program.close()
        raise
    return program


def _open_interpreter(task: Task, program: _Program, head: bytes) -> None:
    """Open what PT_INTERP names; `head` is the beginning of the program."""
    assert program.image.interpreter is not None
    offset, size = program.image.interpreter
    name = head[offset : offset + size] if offset + size <= len(head) else program.file.pread(size, offset)
    if not name.endswith(b"\0"):
        raise LinuxError(errno.ENOEXEC)
    file = _open(task, find(task, name[:-1]))
    program.interpreter_file = file
    try:
        program.interpreter = _read_image(file, file.pread(4096, 0))
    except LinuxError as error:
        raise LinuxError(errno.ELIBBAD if error.errno == errno.ENOEXEC else error.errno) from None


def read_arguments(task: Task, argv: int, envp: int) -> tuple[list[bytes], list[bytes]]:
    """argv and envp. E2BIG: too much, or one string too long (execve(2), "Limits on size of arguments"); EFAULT."""
    low, block = min(argv, envp), b""  # memory read already and where it lies
    if low and max(argv, envp) - low < _ARRAYS_NEAR:
        block = task.mm.read_some(low, _BLOCK)
    return _read_strings(task, argv, low, block), _read_strings(task, envp, low, block)


def _read_strings(task: Task, addr: int, low: int, block: bytes) -> list[bytes]:
    if not addr:
        return []
    mm = task.mm
    limit = _argument_limit(task)
    pointers = _pointers_in(block, addr - low)
    if pointers is None:
        pointers = mm.read_pointers(addr, 1 << 22)
    together = _in_a_row(mm, pointers, limit, low, block)
    if together is not None:
        return together
    out = []
    total = 0
    near, low = b"", 0
    for pointer in pointers:
        at = pointer - low
        end = near.find(b"\0", at) if 0 <= at < len(near) else -1
        if end < 0:
            low, at = pointer, 0
            near = mm.read_some(pointer, _NEAR)
            end = near.find(b"\0")
        if end >= 0:
            text = near[at:end]
        else:
            try:
                text = mm.read_cstring(pointer, MAX_ARG_STRLEN)
            except LinuxError as error:
                raise LinuxError(errno.E2BIG if error.errno == errno.ENAMETOOLONG else error.errno) from None
        total += len(text) + 9
        if total > limit:
            raise LinuxError(errno.E2BIG)
        out.append(text)
    return out


def _pointers_in(block: bytes, at: int) -> list[int] | None:
    """Those at offset `at`, up to the one that is NULL. None: it is not in there."""
    out: list[int] = []
    while at + 8 * _AT_ONCE <= len(block):
        values = _POINTERS.unpack_from(block, at)
        if 0 in values:
            out += values[: values.index(0)]
            return out
        out += values
        at += 8 * _AT_ONCE
    return None


def _in_a_row(mm: AddressSpace, pointers: list[int], limit: int, low: int, block: bytes) -> list[bytes] | None:
    """The strings at `pointers` when each begins right behind the one before, as mostly they do, all within reach.

    `block`: what was read already, at `low`. None: they have to be looked for one by one (and that says what is wrong
    with them).
    """
    if not pointers or not 0 <= pointers[-1] - pointers[0] < _NEAR_IN_A_ROW:
        return None
    at = pointers[0] - low
    end = block.find(b"\0", pointers[-1] - low) if at >= 0 else -1
    if end < 0:
        at = 0
        block = mm.read_some(pointers[0], pointers[-1] - pointers[0] + _NEAR)
        end = block.find(b"\0", pointers[-1] - pointers[0])
    strings = block[at : max(end, 0)].split(b"\0")
    if end < 0 or len(strings) != len(pointers) or end - at + 1 + 8 * len(strings) > limit:
        return None
    follow = accumulate([len(string) + 1 for string in strings[:-1]], initial=pointers[0])
    return strings if [*follow] == pointers else None


def _argument_limit(task: Task) -> int:
    stack: int = task.group.rlimits[3][0]
    return max(min(stack // _ARG_FACTOR, 6 << 20), 32 * PAGE)


# --- building ---
def _segment_ops(
    image: elf.ElfImage, file: OpenFile, bias: int
) -> tuple[list[Op], list[Record], list[tuple[int, int]]]:
    """Operations that map an image at `bias`; what to record of each; the ranges to be zeroed."""
    backing = file.mmap_backing()
    ops: list[Op] = []
    records: list[Record] = []
    for addr, length, prot, offset in image.mappings:
        start = bias + addr
        if offset < 0:
            ops.append(Op(9, (start, length, prot, _ANONYMOUS, _NO_FD, 0)))
            records.append((start, length, prot, None, None, 0, b""))
        else:
            ops.append(Op(9, (start, length, prot, _PRIVATE, 0, backing.base + offset), backing.host_fd))
            records.append((start, length, prot, file, backing, offset, b""))
    return ops, records, [(bias + start, length) for start, length in image.zeroed]


def _place(mm: AddressSpace, image: elf.ElfImage, wanted: int = 0) -> int:
    """Load bias, of a program that may lie anywhere so that it begins near `wanted`. ENOMEM: no room."""
    span = image.high - image.low
    if image.fixed:
        mm.check_range(image.low, span)
        return 0
    if wanted:
        return (wanted & -image.align) - image.low
    return mm.find_free(span + image.align - PAGE) - image.low & -image.align


class _Loader:
    """Fills a new address space step by step."""

    def __init__(self, task: Task, program: _Program, context: Any, complete: Complete, anew: bool) -> None:
        self.task = task
        self.program = program
        self.context = context
        self.complete = complete
        self.mm = AddressSpace()
        self.mm.space = context.space
        self.mm.reserve(context.platform.reserved_ranges())
        self.ops: list[Op] = []
        self.records: list[Record] = []
        self.zero: list[tuple[int, int]] = []
        self.whole = True  # no file ends before what is mapped of it does
        self.entry = 0
        self.failed = False
        self.ahead: dict[int, tuple[object, int, bytes]] = {}
        self.anew = anew

    def begin(self) -> None:
        program, mm = self.program, self.mm
        image = program.image
        stack_limit = self.task.group.rlimits[3][0]
        size = page_up(min(max(stack_limit, 128 << 10), _STACK_MAX)) if stack_limit < 1 << 40 else _STACK_DEFAULT * 4
        drawn = self.task.kernel.random(32)
        self.random = drawn[16:]
        entropy = int.from_bytes(drawn[:16], "little")  # what is placed at random takes its bits from here, in turn
        high = ADDRESS_END - _pages(entropy, 16)
        stack_low = mm.vmas.gap_below(size + 0x10_0000, 1 << 20, high)
        if stack_low is None:
            raise LinuxError(errno.ENOMEM)
        stack_low += 0x10_0000
        self.stack_top = stack_low + size
        prot = 3 | (4 if image.executable_stack else 0)
        self.ops.append(Op(9, (stack_low, size, prot, _ANONYMOUS | mm_h.MAP_NORESERVE, _NO_FD, 0)))
        self.records.append((stack_low, size, prot, None, None, 0, b"[stack]"))
        # nothing may come to lie in the gap below the stack, nor the interpreter where the main image goes
        mm.mmap_top = stack_low - 0x10_0000 - _pages(entropy >> 16, 16)
        self.bias = _place(mm, image, _PIE_BASE + _pages(entropy >> 32, 28))
        self._add(image, program.file, self.bias)
        self.entry = self.bias + image.entry
        self.interpreter_base = 0
        self.lowest = (0, 0)
        if program.interpreter is not None and program.interpreter_file is not None:
            self.interpreter_base = _place(mm, program.interpreter)
            self._add(program.interpreter, program.interpreter_file, self.interpreter_base)
            self.entry = self.interpreter_base + program.interpreter.entry
            if not program.interpreter.fixed:
                low = self.interpreter_base + program.interpreter.low
                self.lowest = low, low + PAGE
        mm.brk_start = mm.brk = self.bias + image.high + _pages(entropy >> 60, 13)
        self._hand_ahead()
        self._step(0)
        if not self.failed:
            self._describe()

    def _hand_ahead(self) -> None:
        """What the program will map by itself goes in with what is mapped here."""
        task, program = self.task, self.program
        files: list[tuple[Donated, bytes]] = []
        if not task.kernel.tracing and program.cred is task.cred:
            for file in (program.file, program.interpreter_file):
                host = file.inode.donated() if file is not None else None
                if (
                    file is not None
                    and host is not None
                    and permissions.allowed(file.inode, task.cred, permissions.READ)
                ):
                    files.append((host, b""))
            files += task.kernel.start_maps.find(task, program.name)
        numbers = self.context.hand_ahead([host for host, _ in files], self.anew)
        self.ahead = {host.fd: (host, number, name) for (host, name), number in zip(files, numbers, strict=False)}

    def _add(self, image: elf.ElfImage, file: OpenFile, bias: int) -> None:
        ops, records, zero = _segment_ops(image, file, bias)
        self.ops += ops
        self.records += records
        self.zero += zero
        self.whole = self.whole and image.file_end <= file.inode.size

    def _step(self, at: int) -> None:
        batch: list[Op] = []
        rows = 0
        while at + len(batch) < len(self.ops) and rows < _MAX_OPS:
            op = self.ops[at + len(batch)]
            rows += 2 if op.host_fd >= 0 else 1
            batch.append(op)

        def done(results: list[int]) -> None:
            if results != [op.args[0] for op in batch]:
                self.failed = True
                # A file that its process was to have from the program before may be missing.
                again = bool(self.ahead) and not self.anew
                self.complete(lambda: self._begin_anew() if again else _fatal(self.task, self, _SIGSEGV))
            elif at + len(batch) < len(self.ops):
                self._step(at + len(batch))
            else:
                self.complete(self._finish)

        self.context.run_ops(batch, done)

    def _begin_anew(self) -> Outcome:
        self.context.owner = None
        self.mm.release()
        return _start(self.task, self.program, anew=True)

    def _describe(self) -> None:
        """What the new memory is going to be, while it is being mapped: its areas, and the first stack."""
        mm = self.mm
        for record in self.records:
            file = record[3]
            if file is not None:
                file.refs += 1
        mm.populate(self.records)
        self.stack = stack = self._stack()
        mm.arg_start, mm.arg_end = stack.arg_start, stack.arg_end
        mm.env_start, mm.env_end = stack.env_start, stack.env_end
        mm.stack_start, mm.auxv = stack.sp, stack.auxv
        mm.runs(self.program.file.inode)

    def _finish(self) -> Outcome:
        """All is mapped: contents, registers, and the task moves over."""
        task, program, mm, context, stack = self.task, self.program, self.mm, self.context, self.stack
        if self.whole and context.fill(self.zero, stack.sp, stack.data):
            mm.filled_by = context
        else:
            try:
                mm.write_together([*((start, bytes(length)) for start, length in self.zero), (stack.sp, stack.data)])
            except LinuxError:
                return _fatal(task, self, _SIGSEGV)
        context.forget_ahead()
        old_mm, old_context = task.mm_or_none, task.context_or_none
        if old_mm is not None:
            begin_exec(task)
        task.mm = mm
        task.keep_mask()
        task.keep_told()
        task.context = context
        context.owner = task
        assert program.cred is not None
        comm = program.name.rsplit(b"/", 1)[-1]
        readable = permissions.allowed(program.file.inode, task.cred, permissions.READ)
        complete_exec(task, program.cred, comm, secure=program.secure, readable=readable)
        task.group.exec_path = program.path
        publish(task)
        let_start(task, self.lowest, program.name, self.ahead)
        context.enter_program(self.entry, stack.sp)

        def leave() -> None:
            foretell(task)
            if old_context is not None:
                old_context.kill()
            if old_mm is not None:
                old_mm.release()
            program.close()
            complete_vfork(task, at_once=True)

        return NoReturn(beside=leave)

    def _stack(self) -> initial_stack.StackImage:
        task, program = self.task, self.program
        image, cred, kernel = program.image, program.cred, task.kernel
        assert cred is not None
        config: Any = kernel.config
        auxv: list[tuple[int, int]] = [
            (33, self.context.platform.vdso[1]),
            (51, max(config.min_signal_stack, 2048)),
            (16, config.hwcap),
            (6, PAGE),
            (17, 100),
            (3, self.bias + image.phdr_vaddr if image.phdr_vaddr else 0),
            (4, 56),
            (5, image.phdr_count),
            (7, self.interpreter_base),
            (8, 0),
            (9, self.bias + image.entry),
            (11, cred.ruid),
            (12, cred.euid),
            (13, cred.rgid),
            (14, cred.egid),
            (23, int(program.secure)),
            (26, config.hwcap2),
        ]
        return initial_stack.build(self.stack_top - 16, program.argv, program.envp, program.name, self.random, auxv)


def _fatal(task: Task, loader: _Loader | None, signo: int) -> Outcome:
    """Too late for an error: the process dies (execve(2): "the kernel kills the process")."""
    if loader is not None:
        loader.program.close()
        loader.context.owner = None
        loader.mm.release()
    exit_group(task, signo)
    return NO_RETURN


def _start(task: Task, program: _Program, anew: bool = False) -> Outcome:
    """The point of no return was passed: build the new address space; `anew`: with nothing from another program."""
    platform = task.kernel.platform

    def start(complete: Complete) -> None:
        def made(context: Any, error: int) -> None:
            if context is None:
                program.close()
                complete(lambda: _fatal(task, None, _SIGKILL))
                return
            loader = _Loader(task, program, context, complete, anew)
            try:
                loader.begin()
            except LinuxError:
                complete(lambda: _fatal(task, loader, _SIGKILL))

        platform.new_space(made)

    if task.context_or_none is not None:
        task.context_or_none.park()
    return StubOp(start)


def execute(task: Task, path: Path, name: bytes, argv: Sequence[bytes], envp: Sequence[bytes]) -> Outcome:
    """execve(2) of the file at `path`, called `name` by the program. Errors as execve(2) lists them."""
    arguments = list(argv) or [b""]
    program = _prepare(task, path, name, arguments, list(envp))
    count = len(program.argv) + len(program.envp)
    size = sum(map(len, program.argv)) + sum(map(len, program.envp)) + 9 * count
    if size > _argument_limit(task) + MAX_ARG_STRLEN:
        program.close()
        raise LinuxError(errno.E2BIG)
    return kill_other_threads(task, lambda: _start(task, program))


def start_init(task: Task, name: bytes, argv: Sequence[bytes], envp: Sequence[bytes]) -> StubOp:
    """The first program of a sandbox (or one entered from outside): `name` as execvp(3) finds it.

    ENOENT, EACCES...: as execve(2); nothing was started then.
    """
    path, found = _search(task, name, envp)
    outcome = execute(task, path, found, argv, envp)
    assert isinstance(outcome, StubOp)
    return outcome


def _search(task: Task, name: bytes, envp: Sequence[bytes]) -> tuple[Path, bytes]:
    if b"/" in name:
        return find(task, name), name
    search = next((item[5:] for item in envp if item.startswith(b"PATH=")), b"/usr/local/bin:/usr/bin:/bin")
    denied: LinuxError | None = None
    for folder in search.split(b":"):
        candidate = (folder or b".") + b"/" + name
        try:
            path = find(task, candidate)
            inode = path.dentry.inode
            assert inode is not None
            if not inode.is_regular:
                continue
            permissions.check(inode, task.cred, permissions.EXECUTE)
        except LinuxError as error:
            if error.errno == errno.EACCES:
                denied = error
            continue
        return path, candidate
    raise denied or LinuxError(errno.ENOENT, name.decode(errors="replace"))


def _pages(entropy: int, bits: int) -> int:
    """The lowest `bits` bits of `entropy`, as a number of pages, in bytes."""
    return (entropy & ((1 << bits) - 1)) << 12

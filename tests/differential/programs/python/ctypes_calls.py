# ctypes: C library calls, callbacks, errno, structures.
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
print(libc.abs(-5), libc.strlen(b"hello"))
print(libc.open(b"/nonexistent", 0), ctypes.get_errno())
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
values = (ctypes.c_int * 6)(5, 3, 9, 1, 7, 2)
libc.qsort(values, 6, 4, compare(lambda a, b: a[0] - b[0]))
print(list(values))


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


t = Timespec()
print(libc.clock_gettime(1, ctypes.byref(t)), t.sec >= 0)
print(libc.getpid() == os.getpid(), libc.syscall(39) == os.getpid())
buffer = ctypes.create_string_buffer(20)
libc.sprintf(buffer, b"%d-%s", 42, b"x")
print(buffer.value)

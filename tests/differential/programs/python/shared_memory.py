# multiprocessing.shared_memory and mmap between processes.
import mmap
import os
from multiprocessing import shared_memory

memory = shared_memory.SharedMemory(create=True, size=100000)
memory.buf[:5] = b"hello"
pid = os.fork()
if pid == 0:
    other = shared_memory.SharedMemory(memory.name)
    other.buf[0:5] = bytes(other.buf[0:5]).upper()
    other.close()
    os._exit(0)
os.waitpid(pid, 0)
print(bytes(memory.buf[:5]), memory.size >= 100000)
memory.close()
memory.unlink()
try:
    shared_memory.SharedMemory(memory.name)
except FileNotFoundError:
    print("gone")
shared = mmap.mmap(-1, 4096)
pid = os.fork()
if pid == 0:
    shared[:3] = b"abc"
    os._exit(0)
os.waitpid(pid, 0)
print(shared[:4])
with open("f", "wb") as f:
    f.write(b"0123456789" * 1000)
with open("f", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
    print(len(m), m.find(b"9"), m.rfind(b"0"), m[5:8])
    m[0:3] = b"XYZ"
    m.flush()
    m.resize(20000)
    print(m.size(), m[19999])
    m.move(100, 0, 10)
    print(m[100:110])
    m.madvise(mmap.MADV_DONTNEED)
    print(m[:5])
print(open("f", "rb").read(5), os.path.getsize("f"))
try:
    with open("f", "rb") as f:
        mmap.mmap(f.fileno(), 0)
except PermissionError as error:
    print(error.errno)

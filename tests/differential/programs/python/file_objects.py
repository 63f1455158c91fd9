# Buffered, text and raw files: seeking, universal newlines, truncation, append, encodings, large lines.
import io
import os

with open("f", "w+", encoding="utf-8", newline="") as f:
    f.write("first\r\nsecond\nthird é\n")
    f.seek(0)
    print(repr(f.read()))
with open("f", encoding="utf-8") as f:
    print(f.readlines(), f.tell())
with open("f", "ab") as f:
    print(f.tell(), f.write(b"more"))
with open("f", "r+b") as f:
    f.seek(-4, os.SEEK_END)
    print(f.read(), f.truncate(5), f.seek(0), f.read())
with open("big", "wb") as f:
    for n in range(1000):
        f.write(n.to_bytes(4, "little") * 100)
with open("big", "rb") as f:
    f.seek(400 * 777)
    print(int.from_bytes(f.read(4), "little"), f.peek(2)[:2] if hasattr(f, "peek") else "", os.path.getsize("big"))
    array = bytearray(10)
    print(f.readinto(array), f.raw.tell() >= f.tell())
with io.open(os.open("g", os.O_CREAT | os.O_RDWR, 0o600), "w+") as f:
    print("line one\nline two", file=f)
    f.seek(0)
    print([line for line in f])
fd = os.open("h", os.O_CREAT | os.O_RDWR)
print(os.pwritev(fd, [b"ab", b"cd"], 3), os.preadv(fd, [bytearray(4), bytearray(10)], 0), os.pread(fd, 10, 3))
print(os.lseek(fd, 2, os.SEEK_SET), os.read(fd, 3), os.sendfile(os.open("copy", os.O_CREAT | os.O_WRONLY), fd, 3, 4))
os.ftruncate(fd, 1)
os.fsync(fd)
print(os.fstat(fd).st_size, os.get_inheritable(fd), os.get_blocking(fd))
os.close(fd)
for call in [
    lambda: os.read(fd, 1),
    lambda: open("none"),
    lambda: open("."),
    lambda: open("f/x"),
    lambda: open("x" * 300, "w"),
]:
    try:
        call()
    except OSError as error:
        print(type(error).__name__, error.errno)
with open("lines", "w") as f:
    f.writelines(f"{n}\n" for n in range(100000))
print(sum(int(line) for line in open("lines")))

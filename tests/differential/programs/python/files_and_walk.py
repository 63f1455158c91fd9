# tempfile, shutil, os.walk, pathlib, glob, stat, os.scandir, fileinput-like reading.
import glob
import os
import shutil
import stat
import tempfile
from pathlib import Path

root = Path("tree")
for name in ["a/one.txt", "a/b/two.txt", "c/three.bin"]:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name * 3)
(root / "link").symlink_to("a/one.txt")
for folder, folders, files in os.walk(root):
    folders.sort()
    print(folder, folders, sorted(files))
print(sorted(glob.glob("tree/**/*.txt", recursive=True)))
print(sorted((e.name, e.is_dir(), e.is_symlink(), e.stat().st_size if e.is_file() else 0) for e in os.scandir(root)))
shutil.copytree(root, "copy", symlinks=True)
print(sorted(str(p) for p in Path("copy").rglob("*")))
shutil.move("copy/a", "moved")
print(os.listdir("moved") and sorted(os.listdir("moved")), os.path.exists("copy/a"))
shutil.make_archive("archive", "zip", "tree")
shutil.unpack_archive("archive.zip", "unpacked")
print((Path("unpacked") / "a" / "b" / "two.txt").read_text())
shutil.rmtree("copy")
print(os.path.exists("copy"))
with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(dir=folder) as f:
    f.write(b"x" * 100)
    f.flush()
    print(os.stat(f.name).st_size, stat.filemode(os.stat(f.name).st_mode), stat.filemode(os.stat(folder).st_mode))
print(os.path.exists(folder))
with tempfile.TemporaryFile() as f:
    f.write(b"anonymous")
    f.seek(0)
    print(f.read(), os.fstat(f.fileno()).st_nlink)
with tempfile.SpooledTemporaryFile(max_size=10) as f:
    f.write(b"y" * 100)
    print(f.tell())
os.makedirs("x/y/z")
os.removedirs("x/y/z")
print(os.path.exists("x"))
print(shutil.disk_usage(".").total > 0, shutil.which("sh").endswith("/sh"))
for path in ["tree", "tree/a/one.txt", "tree/link"]:
    print(path, stat.filemode(os.lstat(path).st_mode))
try:
    os.rmdir("tree")
except OSError as error:
    print(error.errno, error.strerror)
os.replace("tree/c/three.bin", "tree/a/one.txt")
print(Path("tree/link").read_text())

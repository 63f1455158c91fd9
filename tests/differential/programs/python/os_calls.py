# os: users, groups, limits, scheduling, uname, urandom, pipes, exec and spawn families, environment.
import os
import resource
import time

print(os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups()) == sorted(os.getgroups()))
print(resource.getrlimit(resource.RLIMIT_CORE)[0] >= -1, len(os.urandom(20)), os.cpu_count() >= 1)
print(os.uname().sysname, os.uname().machine, os.sysconf("SC_PAGE_SIZE"), os.strerror(2))
read_end, write_end = os.pipe2(os.O_CLOEXEC)
pid = os.fork()
if pid == 0:
    os.dup2(write_end, 1)
    os.execvpe("sh", ["sh", "-c", "echo $V"], {"V": "value", "PATH": os.environ["PATH"]})
os.waitpid(pid, 0)
print(os.read(read_end, 100))
print(os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "exit 4"), os.waitstatus_to_exitcode(os.system("exit 5")))
pid = os.posix_spawnp("sh", ["sh", "-c", "exit 6"], os.environ)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
pid = os.posix_spawnp(
    "sh",
    ["sh", "-c", "echo to file"],
    os.environ,
    file_actions=[(os.POSIX_SPAWN_OPEN, 1, "out", os.O_CREAT | os.O_WRONLY, 0o644)],
)
os.waitpid(pid, 0)
print(open("out").read())
usage = os.wait4(os.spawnlp(os.P_NOWAIT, "true", "true"), 0)[2]
print(usage.ru_maxrss > 0)
os.mkfifo("fifo")
os.symlink("out", "link")
os.link("out", "hard")
print(os.stat("out").st_nlink, os.readlink("link"), os.path.samefile("out", "hard"), os.path.islink("link"))
os.utime("out", (1000, 2000))
print(os.stat("out").st_mtime, os.stat("out").st_atime)
os.chmod("out", 0o640)
print(oct(os.stat("out").st_mode), os.access("out", os.X_OK))
os.setxattr("out", "user.k", b"v")
print(os.getxattr("out", "user.k"), os.listxattr("out"))
fd = os.memfd_create("m")
os.write(fd, b"memory")
print(os.pread(fd, 10, 0), os.readlink(f"/proc/self/fd/{fd}"))
event = os.eventfd(3)
os.eventfd_write(event, 4)
print(os.eventfd_read(event))
pidfd = os.pidfd_open(os.getpid())
print(pidfd > 2, os.getpgid(0) == os.getpgrp(), os.getsid(0) == os.getsid(os.getpid()))
print(os.sched_getaffinity(0) != set(), os.nice(0), os.getpriority(os.PRIO_PROCESS, 0), os.get_terminal_size.__name__)
print(os.copy_file_range(os.open("out", os.O_RDONLY), os.open("dst", os.O_CREAT | os.O_WRONLY), 100))
print(
    time.get_clock_info("monotonic").monotonic,
    time.clock_gettime(time.CLOCK_MONOTONIC) <= time.monotonic(),
    os.times().elapsed > 0,
)
os.environ["NEW"] = "x"
print(os.popen("echo $NEW").read())

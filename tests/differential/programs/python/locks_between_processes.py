# fcntl.flock and lockf across processes; a counter file that loses nothing.
import fcntl
import os

with open("counter", "w") as f:
    f.write("0")
pids = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            with open("counter", "r+") as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                n = int(f.read())
                f.seek(0)
                f.write(str(n + 1))
                f.flush()
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
print(open("counter").read())
with open("counter", "r+") as f:
    fcntl.lockf(f, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        with open("counter", "r+") as g:
            try:
                fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                print("blocked", error.errno)
        os._exit(0)
    os.waitpid(pid, 0)
    print(fcntl.fcntl(f, fcntl.F_GETFD))

# os.fork trees with pipes: sums from many processes; orphans; exit codes.
import os

read_end, write_end = os.pipe()
pids = []
for n in range(10):
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        inner_read, inner_write = os.pipe()
        if os.fork() == 0:
            os.write(inner_write, bytes([n * 2]))
            os._exit(0)
        os.wait()
        os.write(write_end, os.read(inner_read, 1))
        os._exit(n)
    pids.append(pid)
os.close(write_end)
total = 0
while data := os.read(read_end, 100):
    total += sum(data)
print(total, sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
try:
    os.wait()
except ChildProcessError as error:
    print(error.errno)

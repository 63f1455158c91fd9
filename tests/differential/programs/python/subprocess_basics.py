# subprocess: run, pipes, input, statuses, environment, cwd, timeouts, process groups.
import os
import signal
import subprocess
import sys

print(subprocess.run(["echo", "hello"], capture_output=True, text=True))
print(subprocess.run(["cat"], input="through cat", capture_output=True, text=True).stdout)
print(subprocess.run("echo out; echo err >&2; exit 3", shell=True, capture_output=True, text=True))
print(subprocess.call([sys.executable, "-c", "import sys; sys.exit(7)"]))
try:
    subprocess.run(["sleep", "5"], timeout=0.2)
except subprocess.TimeoutExpired as error:
    print("timeout", type(error).__name__)
try:
    subprocess.run(["no-such-program-here"])
except FileNotFoundError as error:
    print("missing", error.errno, error.filename)
try:
    subprocess.run(["/etc/passwd"])
except PermissionError as error:
    print("not executable", error.errno)
process = subprocess.Popen(["sleep", "30"])
process.send_signal(signal.SIGTERM)
print("terminated", process.wait())
process = subprocess.Popen(["sleep", "30"], start_new_session=True)
print("own session", os.getsid(process.pid) == process.pid)
os.killpg(process.pid, signal.SIGKILL)
print("killed", process.wait())
print(
    subprocess.check_output(
        ["sh", "-c", "echo $X; pwd | sed s,.*/,,"], env={"X": "y", "PATH": os.environ["PATH"]}, cwd="/usr", text=True
    )
)
one = subprocess.Popen(["seq", "1", "50000"], stdout=subprocess.PIPE)
two = subprocess.Popen(["wc", "-l"], stdin=one.stdout, stdout=subprocess.PIPE, text=True)
one.stdout.close()
print(two.communicate()[0].strip(), one.wait())
out = subprocess.run(["sh", "-c", "ls /proc/self/fd | wc -l"], capture_output=True, text=True, close_fds=True)
print("few descriptors", int(out.stdout) <= 5)
print(
    subprocess.run(
        ["sh", "-c", "echo $0"], capture_output=True, text=True, preexec_fn=lambda: os.umask(0)
    ).stdout.strip()
)
read_end, write_end = os.pipe()
subprocess.run(["sh", "-c", f"echo passed >&{write_end}"], pass_fds=[write_end])
print(os.read(read_end, 100))

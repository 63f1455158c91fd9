# Twenty concurrent children whose output is collected.
import subprocess
import sys

children = [subprocess.Popen(["sh", "-c", f"echo {n}; exit {n}"], stdout=subprocess.PIPE, text=True) for n in range(20)]
print([(child.communicate()[0].strip(), child.returncode) for child in children])
print(sum(subprocess.call(["true"]) for _ in range(20)))
big = subprocess.run(
    [sys.executable, "-c", "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d[::-1])"],
    input=bytes(range(256)) * 8192,
    capture_output=True,
)
print(len(big.stdout), big.stdout[:4])

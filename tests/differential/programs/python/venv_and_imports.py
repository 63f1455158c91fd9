# timeout=90 runs=2
# Importing from files and archives, byte code caches, python -m, a virtual environment.
import os
import subprocess
import sys
import zipfile

os.makedirs("pkg/sub")
for path, text in {
    "pkg/__init__.py": "X = 1\n",
    "pkg/sub/__init__.py": "",
    "pkg/sub/mod.py": "from .. import X\nY = X + 1\n",
    "pkg/__main__.py": "import sys\nprint('main', sys.argv[1:])\n",
}.items():
    with open(path, "w") as f:
        f.write(text)
sys.path.insert(0, ".")
from pkg.sub import mod

print(mod.Y, mod.__name__)
environment = {"PATH": os.environ["PATH"], "PYTHONPATH": "."}
print(subprocess.run([sys.executable, "-m", "pkg", "a", "b"], capture_output=True, text=True, env=environment).stdout)
print(
    subprocess.run(
        [sys.executable, "-c", "import pkg.sub.mod, os; print(os.path.exists('pkg/sub/__pycache__'))"],
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
)
with zipfile.ZipFile("app.zip", "w") as archive:
    archive.writestr("__main__.py", "print('from zip')")
print(subprocess.run([sys.executable, "app.zip"], capture_output=True, text=True).stdout)
subprocess.run([sys.executable, "-m", "venv", "--without-pip", "env"], check=True)
print(
    subprocess.run(
        ["env/bin/python", "-c", "import sys; print(sys.prefix != sys.base_prefix)"], capture_output=True, text=True
    ).stdout
)
print(subprocess.run([sys.executable, "-c", "import this"], capture_output=True, text=True).stdout.splitlines()[0])

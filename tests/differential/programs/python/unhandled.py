# stderr
# An unhandled exception: the traceback on standard error and status 1; atexit and finally run.
import atexit
import sys

atexit.register(print, "atexit ran")
sys.excepthook = lambda kind, value, trace: print(kind.__name__, value, file=sys.stderr)
try:
    try:
        raise KeyError("inner")
    finally:
        print("finally")
except KeyError:
    pass
raise RuntimeError("end")

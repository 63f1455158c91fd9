# signal: handlers, alarm, setitimer, sigwait, wakeup fd, KeyboardInterrupt, pthread_kill.
import os
import signal
import threading
import time

seen = []
signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(signal.Signals(number).name))
os.kill(os.getpid(), signal.SIGUSR1)
print(seen)
signal.signal(signal.SIGALRM, lambda number, frame: seen.append("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
started = time.monotonic()
time.sleep(0.15)
signal.setitimer(signal.ITIMER_REAL, 0)
print(seen.count("alarm") >= 3, time.monotonic() - started >= 0.15)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt:
    print("interrupted")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
os.kill(os.getpid(), signal.SIGUSR2)
print(signal.SIGUSR2 in signal.sigpending(), signal.sigwait({signal.SIGUSR2}).name)
print(signal.sigtimedwait({signal.SIGUSR2}, 0.02))
signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
print(len(seen) > 1 and seen[-1])
read_end, write_end = os.pipe()
os.set_blocking(write_end, False)
signal.set_wakeup_fd(write_end)
os.kill(os.getpid(), signal.SIGUSR1)
print(list(os.read(read_end, 10)) == [signal.SIGUSR1])


def raising(number, frame):
    raise TimeoutError("handler")


signal.signal(signal.SIGALRM, raising)
signal.alarm(1)
try:
    os.read(read_end, 1)
except TimeoutError as error:
    print("read left by", error)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(signal.strsignal(11), len(signal.valid_signals()))

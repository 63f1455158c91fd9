# threading: locks, conditions, events, queues, pools, thread-local data.
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

total = 0
lock = threading.Lock()


def add():
    global total
    for _ in range(2000):
        with lock:
            total += 1


threads = [threading.Thread(target=add) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(total)
jobs, results = queue.Queue(5), queue.Queue()


def worker():
    while (job := jobs.get()) is not None:
        results.put(job * job)


threads = [threading.Thread(target=worker) for _ in range(4)]
for thread in threads:
    thread.start()
for n in range(100):
    jobs.put(n)
for _ in threads:
    jobs.put(None)
for thread in threads:
    thread.join()
print(sum(results.get() for _ in range(100)))
event = threading.Event()
threading.Timer(0.05, event.set).start()
print(event.wait(5), threading.Event().wait(0.02))
with ThreadPoolExecutor(4) as pool:
    print(list(pool.map(lambda n: n + 1, range(10))))
    started = time.monotonic()
    list(pool.map(time.sleep, [0.1] * 4))
    print("in parallel", time.monotonic() - started < 0.39)
barrier = threading.Barrier(3)
order = []
threads = [threading.Thread(target=lambda: (barrier.wait(), order.append(1))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(order), threading.active_count())
print(threading.get_native_id() > 0)

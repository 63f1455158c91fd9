# timeout=60
# multiprocessing: pool, queues, shared values, pipes, managers' basics, spawn.
import multiprocessing as mp
import os
import sys


def square(n):
    return n * n


def increment(value, lock):
    for _ in range(200):
        with lock:
            value.value += 1


def child(connection):
    connection.send({"got": connection.recv(), "parent": os.getppid()})
    connection.close()


if __name__ == "__main__":
    fork = mp.get_context("fork")
    with fork.Pool(3) as pool:
        print(pool.map(square, range(20)))
        print(pool.apply_async(square, (9,)).get(10))
    value, lock = fork.Value("i", 0), fork.Lock()
    processes = [fork.Process(target=increment, args=(value, lock)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(value.value, [process.exitcode for process in processes])
    here, there = fork.Pipe()
    process = fork.Process(target=child, args=(there,))
    process.start()
    here.send([1, "two", 3.0])
    answer = here.recv()
    process.join()
    print(answer["got"], answer["parent"] == os.getpid())
    queue = fork.Queue()
    process = fork.Process(target=lambda: [queue.put(n) for n in range(5)])
    process.start()
    print([queue.get() for _ in range(5)])
    process.join()
    process = fork.Process(target=sys.exit, args=(3,))
    process.start()
    process.join()
    print(process.exitcode)
    process = fork.Process(target=os.kill, args=(0, 0))
    process = fork.Process(target=lambda: os.kill(os.getpid(), 9))
    process.start()
    process.join()
    print(process.exitcode)
    semaphore = fork.Semaphore(0)
    print(semaphore.acquire(timeout=0.05))

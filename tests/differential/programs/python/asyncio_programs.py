# asyncio: subprocesses, unix sockets, timers, signals, threads, queues.
import asyncio
import os
import signal
import sys


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def client(n):
    reader, writer = await asyncio.open_unix_connection("sock")
    out = []
    for i in range(5):
        writer.write(f"client {n} line {i}\n".encode())
        out.append((await reader.readline()).decode().strip())
    writer.close()
    await writer.wait_closed()
    return out


async def main():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(input()[::-1])", stdin=-1, stdout=-1)
    print(await process.communicate(b"reversed\n"), process.returncode)
    shells = [await asyncio.create_subprocess_shell(f"sleep 0.0{n}; exit {n}") for n in range(5)]
    print([await shell.wait() for shell in shells])
    async with await asyncio.start_unix_server(echo, "sock"):
        print((await asyncio.gather(*(client(n) for n in range(5))))[3])
    got = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(got.wait(), 5)
    print("signal")
    try:
        await asyncio.wait_for(asyncio.sleep(5), 0.05)
    except TimeoutError:
        print("timeout")
    print(await asyncio.to_thread(sum, range(100)))
    queue = asyncio.Queue()
    tasks = [asyncio.create_task(queue.put(n)) for n in range(10)]
    await asyncio.gather(*tasks)
    print(sorted([queue.get_nowait() for _ in range(10)]))
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end)
    )
    os.write(write_end, b"through a pipe\n")
    os.close(write_end)
    print(await reader.read())
    process = await asyncio.create_subprocess_exec("sleep", "30")
    process.kill()
    print(await process.wait())


asyncio.run(main())

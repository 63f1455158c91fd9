# SO_LINGER with a time: close(2) waits for what is not acknowledged, at most that long, whatever O_NONBLOCK says.
import os
import signal
import socket
import struct
import threading
import time


def linger(sock, seconds):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))


def pair():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    return client, server


def fill(sock):
    sock.setblocking(False)
    total = 0
    while True:
        try:
            total += sock.send(bytes(65536))
        except BlockingIOError:
            return total


def timed(what):
    begun = time.monotonic()
    what()
    return time.monotonic() - begun


def drain(sock):
    total = 0
    while part := sock.recv(1 << 20):
        total += len(part)
    return total


client, server = pair()
linger(client, 2)
client.send(b"acknowledged at once")
print("nothing outstanding: at once", timed(client.close) < 1)
server.close()

client, server = pair()
linger(client, 1)
sent = fill(client)
print("until the time is over", 0.9 < timed(client.close) < 2)
print("all the same it comes", drain(server) == sent)
server.close()

client, server = pair()
linger(client, 20)
sent = fill(client)
got = []
reader = threading.Thread(target=lambda: (time.sleep(0.3), got.append(drain(server))))
reader.start()
print("until it is acknowledged", 0.2 < timed(client.close) < 10)
reader.join()
print("and it is all there", got == [sent])
server.close()

client, server = pair()
linger(client, 20)
fill(client)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.3)
number = client.detach()
print("until a signal", timed(lambda: os.close(number)) < 10)
try:
    os.fstat(number)
except OSError as error:
    print("it is closed", error.errno)
server.close()

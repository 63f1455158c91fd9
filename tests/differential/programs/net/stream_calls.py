# timeout=60
"""Calls on an established TCP connection: flags, partial transfers, time limits, back-pressure, urgent data, splicing."""

import errno
import os
import select
import signal
import socket
import struct
import threading
import time


def say(name, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode[error.errno]
    print(f"{name}: {result}")


def pair():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


def later(seconds, call):
    thread = threading.Timer(seconds, call)
    thread.start()
    return thread


def ioctl_int(made, request):
    import fcntl

    return struct.unpack("i", fcntl.ioctl(made, request, bytes(4)))[0]


def wait_for(made, count):
    end = time.monotonic() + 2
    while ioctl_int(made, 0x541B) != count and time.monotonic() < end:
        time.sleep(0.002)
    return ioctl_int(made, 0x541B)


print("--- flags")
c, s = pair()
c.send(b"hello world")
print(wait_for(s, 11))
say("peek", lambda: s.recv(5, socket.MSG_PEEK))
say("dontwait", lambda: s.recv(5, socket.MSG_DONTWAIT))
say("trunc throws away", lambda: s.recv_into(bytearray(3), 3, socket.MSG_TRUNC))
say("rest", lambda: s.recv(100))
say("dontwait", lambda: s.recv(5, socket.MSG_DONTWAIT))
say("zero", lambda: s.recv(0))
say("oob", lambda: s.recv(1, socket.MSG_OOB))
say("errqueue", lambda: s.recv(1, socket.MSG_ERRQUEUE))
say("sendto elsewhere", lambda: c.sendto(b"12", ("127.0.0.1", 1)))
say("recvfrom", lambda: s.recvfrom(5))
say("recvmsg", lambda: (c.sendmsg([b"ab", b"", b"cde"]), s.recvmsg(10, 100)[1:]))
later(0.1, lambda: c.send(b"second"))
c.send(b"first ")
say("waitall", lambda: s.recv(12, socket.MSG_WAITALL))
c.send(b"part")
later(0.1, lambda: c.shutdown(1))
say("waitall to the end", lambda: s.recv(12, socket.MSG_WAITALL))
say("the end", lambda: s.recv(12))
c, s = pair()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 5)
c.send(b"abc")
wait_for(s, 3)
print("low water:", select.select([s], [], [], 0)[0] == [])
later(0.1, lambda: c.send(b"defghijk"))
say("recv", lambda: s.recv(100))
c.send(b"ab")
wait_for(s, 2)
say("below it, MSG_DONTWAIT", lambda: s.recv(100, socket.MSG_DONTWAIT))
say("below it, nothing there", lambda: s.recv(100, socket.MSG_DONTWAIT))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
s.settimeout(0.05)
s.setblocking(True)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
say("time limit", lambda: s.recv(1))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
s.setsockopt(socket.SOL_SOCKET, 42, 0)
c.send(b"0123456789")
wait_for(s, 10)
say(
    "peek offset",
    lambda: (s.recv(4, socket.MSG_PEEK), s.recv(4, socket.MSG_PEEK), s.recv(3), s.recv(9, socket.MSG_PEEK)),
)

print("--- back-pressure")
c, s = pair()
c.setblocking(False)
sent = 0
try:
    while True:
        sent += c.send(bytes(65536))
except BlockingIOError:
    pass
print("limited:", 100_000 < sent < 20_000_000, select.select([], [c], [], 0)[1] == [])
print("all there:", ioctl_int(s, 0x541B) > 0)
poll = select.epoll()
poll.register(c, select.EPOLLOUT | select.EPOLLET)
print(poll.poll(0))
got = 0
while got < sent:
    got += len(s.recv(1 << 20))
print("room again:", [hex(bits) for _, bits in poll.poll(2)], got == sent)
print("an edge once:", poll.poll(0.05))
c.setblocking(True)
done = []
thread = threading.Thread(target=lambda: done.append(c.sendall(bytes(8_000_000))))
thread.start()
total = 0
while total < 8_000_000:
    total += len(s.recv(100_000))
thread.join()
print("blocking send:", total, done)
c, s = pair()
c.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 100_000))
say("time limit", lambda: [c.send(bytes(1 << 20)) for _ in range(100)] and None)

print("--- edges")
c, s = pair()
poll = select.epoll()
poll.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
print([hex(bits) for _, bits in poll.poll(1)], poll.poll(0.05))
c.send(b"a")
print([hex(bits) for _, bits in poll.poll(1)], poll.poll(0.05))
c.send(b"b")
print([hex(bits) for _, bits in poll.poll(1)])
s.recv(1)
print(poll.poll(0.05))
s.recv(1)
c.shutdown(1)
print([hex(bits) for _, bits in poll.poll(1)])
s.send(b"x")
print(poll.poll(0.05))
c.close()
print([hex(bits) for _, bits in poll.poll(1)])

print("--- urgent data")
received = []
signal.signal(signal.SIGURG, lambda number, frame: received.append(number))
c, s = pair()
import fcntl

fcntl.fcntl(s, fcntl.F_SETOWN, os.getpid())
c.send(b"123")
c.send(b"!", socket.MSG_OOB)
c.send(b"456")
end = time.monotonic() + 2
while not received and time.monotonic() < end:
    time.sleep(0.002)
wait_for(s, 3)
print("signal:", received == [signal.SIGURG], "exceptional:", select.select([], [], [s], 1)[2] == [s])
print("mark:", ioctl_int(s, 0x8905))
say("up to the mark", lambda: s.recv(100))
print("mark:", ioctl_int(s, 0x8905))
say("urgent", lambda: s.recv(1, socket.MSG_OOB))
say("again", lambda: s.recv(1, socket.MSG_OOB))
say("behind it", lambda: s.recv(100))
print("mark:", ioctl_int(s, 0x8905))
s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
c.send(b"ab")
c.send(b"!", socket.MSG_OOB)
c.send(b"cd")
wait_for(s, 5)
say("in line", lambda: s.recv(100))
say("in line", lambda: s.recv(100))
say("urgent", lambda: s.recv(1, socket.MSG_OOB))

print("--- splicing")
c, s = pair()
with open("file", "wb+") as file:
    file.write(bytes(range(256)) * 1000)
    file.flush()
    thread = threading.Thread(target=lambda: (os.sendfile(c.fileno(), file.fileno(), 0, 256_000), c.close()))
    thread.start()
    data = b""
    while piece := s.recv(50_000):
        data += piece
    thread.join()
    print("sendfile:", data == bytes(range(256)) * 1000)
c, s = pair()
r, w = os.pipe()
os.write(w, b"through a pipe")
print(os.splice(r, c.fileno(), 100), wait_for(s, 14))
print(os.splice(s.fileno(), w, 100), os.read(r, 100))
c.close()
print(os.splice(s.fileno(), w, 100))

print("--- SIGPIPE")
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    c, s = pair()
    c.shutdown(1)
    os.write(c.fileno(), b"x")
    os._exit(0)
print(os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGPIPE)

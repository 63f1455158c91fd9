# socket and select: unix stream and datagram, selectors, poll, epoll, sendmsg with descriptors, timeouts.
import os
import select
import selectors
import socket

a, b = socket.socketpair()
a.sendall(b"x" * 1000)
print(len(b.recv(4096)))
b.settimeout(0.05)
try:
    b.recv(1)
except TimeoutError:
    print("timeout")
print(select.select([a, b], [a, b], [], 0)[0] == [], len(select.select([], [a, b], [], 0)[1]))
a.shutdown(socket.SHUT_WR)
print(b.recv(1), select.select([b], [], [], 0)[0] == [b])
server = socket.socket(socket.AF_UNIX)
server.bind("s")
server.listen()
server.setblocking(False)
selector = selectors.DefaultSelector()
selector.register(server, selectors.EVENT_READ)
clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
for n, client in enumerate(clients):
    client.connect("s")
    client.send(bytes([n]))
done = 0
while done < 5:
    for key, mask in selector.select(5):
        if key.fileobj is server:
            connection, address = server.accept()
            selector.register(connection, selectors.EVENT_READ)
        else:
            key.fileobj.send(bytes([key.fileobj.recv(1)[0] * 10]))
            selector.unregister(key.fileobj)
            done += 1
print([client.recv(1)[0] for client in clients])
with open("f", "w") as f:
    f.write("passed along")
a, b = socket.socketpair()
with open("f") as f:
    socket.send_fds(a, [b"msg"], [f.fileno()])
data, descriptors, flags, address = socket.recv_fds(b, 100, 5)
print(data, len(descriptors), os.read(descriptors[0], 100))
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
d.bind("d")
e = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
e.bind("e")
e.sendto(b"datagram", "d")
print(d.recvfrom(100))
poller = select.epoll()
poller.register(d.fileno(), select.EPOLLIN | select.EPOLLET)
e.sendto(b"1", "d")
print(len(poller.poll(1)), len(poller.poll(0)))
poll = select.poll()
poll.register(d, select.POLLIN | select.POLLOUT)
print([event for _, event in poll.poll(0)])
print(server.getsockname(), repr(clients[0].getsockname()), clients[0].getpeername())
print(server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), a.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
makefile = a.makefile("rw")
makefile.write("line\n")
makefile.flush()
print(b.makefile().readline())
try:
    socket.socket(socket.AF_UNIX).connect("nothing")
except OSError as error:
    print(error.errno)

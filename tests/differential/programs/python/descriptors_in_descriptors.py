# Sockets that lie in each other's queues to a great depth: closing the last closes all.
import os
import socket

DEPTH = 1000


def lay(held, pair):
    """`held` into the queue of `pair`, of which one end is left."""
    sender, receiver = pair
    socket.send_fds(sender, [b"x"], [held.fileno()])
    held.close()
    sender.close()
    return receiver


def chain(kind):
    witness, held = socket.socketpair()
    for _ in range(DEPTH):
        held = lay(held, socket.socketpair(socket.AF_UNIX, kind))
    return witness, held


def ended(witness):
    """The other end of the innermost socket was closed."""
    witness.settimeout(20)
    return witness.recv(1) == b""


for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET:
    witness, held = chain(kind)
    held.close()
    print("closed", ended(witness))

witness, held = chain(socket.SOCK_STREAM)
if os.fork() == 0:
    witness.close()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
held.close()
print("with its process", ended(witness))

"""What TCP and UDP sockets of both families share: local and remote addresses, bind(2), names, options, interfaces.

`local` and `remote` are four or sixteen bytes; an AF_INET6 socket that talks IPv4 has four. `claim` is what the port
table knows it by (ports.py), `auto` whether the port was chosen by the way. `settings` are the options that were set at
the levels below SOL_SOCKET, by (level, name); ip_options.py has their tables.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import capability_h as ca
from protocol.abi import fcntl_h as fc
from protocol.abi import in_h
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError
from services.sentry.sockets.base import Socket
from services.sentry.sockets.inet.addresses import (
    ANY4,
    ANY6,
    LOOPBACK4,
    LOOPBACK6,
    UNSPEC,
    Endpoint,
    is_any,
    is_link_local6,
    pack4,
    pack6,
    parse4_untrusted,
    parse6_untrusted,
)
from services.sentry.sockets.inet.ip_options import get_ip_option, set_ip_option
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.sockets.inet.ports import DUAL_ANY, PortTable
from services.sentry.vfs.anonymous import socket_inode

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = ["InetSocket"]

#: net.ipv4.ip_unprivileged_port_start.
_FIRST_UNPRIVILEGED: Final = 1024
_FREEBIND: Final = (in_h.IPPROTO_IP, in_h.IP_FREEBIND)
_TRANSPARENT: Final = (in_h.IPPROTO_IP, in_h.IP_TRANSPARENT)


class InetSocket(Socket):
    """`ports` is the table of the protocol. user_port, user_address: bind(2) gave them, so a disconnect keeps them.

    owns_port: `local_port` is this socket's; what it owned once it goes on showing. bound_interface: SO_BINDTODEVICE,
    0: none. far: what stands for it at a network stack outside, None: nothing does.
    """

    __slots__ = (
        "auto",
        "bound_interface",
        "claim",
        "cred",
        "domain",
        "far",
        "groups",
        "local",
        "local_port",
        "network",
        "owns_port",
        "ports",
        "remote",
        "remote_port",
        "scope",
        "settings",
        "user_address",
        "user_port",
        "v6_only",
    )

    lingers = False
    #: Ports below need CAP_NET_BIND_SERVICE.
    first_unprivileged = _FIRST_UNPRIVILEGED

    def __init__(
        self,
        kernel: Kernel,
        cred: Credentials,
        network: InetNetwork,
        ports: PortTable,
        domain: int,
        kind: int,
        protocol: int,
        flags: int,
    ) -> None:
        super().__init__(kernel, socket_inode(kernel, cred), kind, protocol, flags)
        self.network = network
        self.ports = ports
        self.cred = cred
        self.domain = domain
        self.local = self.remote = ANY4 if domain == so.AF_INET else ANY6
        self.local_port = self.remote_port = 0
        self.claim = DUAL_ANY
        self.auto = self.owns_port = False
        self.user_port = self.user_address = False
        self.v6_only = False
        self.scope = self.bound_interface = 0
        self.far: Any = None  # a provider.Far, of the kind that its provider makes for this kind of socket
        self.settings: dict[tuple[int, int], int] = {}
        self.groups: dict[tuple[bytes, int], None] = {}
        network.sockets[self.protocol_name] += 1

    @property
    def protocol_name(self) -> str:
        """As in /proc/net/protocols."""
        name = "TCP" if self.kind == so.SOCK_STREAM else "UDP"
        return name if self.domain == so.AF_INET else name + "v6"

    # --- what the port table asks (ports.Owner) ---
    @property
    def reuse_address(self) -> bool:
        return bool(self.options.get(so.SO_REUSEADDR))

    @property
    def reuse_port(self) -> bool:
        return bool(self.options.get(so.SO_REUSEPORT))

    @property
    def uid(self) -> int:
        return self.inode.uid

    def claim_of(self, address: bytes) -> bytes:
        """What binding to `address` takes."""
        if self.domain == so.AF_INET6 and not self.v6_only and address == ANY6:
            return DUAL_ANY
        return address

    # --- names ---
    def parse(self, raw: bytes) -> Endpoint:
        """A struct sockaddr of this socket's family. EINVAL, EAFNOSUPPORT."""
        return parse4_untrusted(raw) if self.domain == so.AF_INET else parse6_untrusted(raw)

    def pack(self, address: bytes, port: int) -> bytes:
        """`address` as this socket shows it."""
        if self.domain == so.AF_INET:
            return pack4(address, port)
        return pack6(address, port, self.scope if is_link_local6(address) else 0)

    def local_address(self) -> bytes:
        return self.pack(self.local, self.local_port)

    def bind(self, task: Task, address: bytes) -> None:
        """bind(2). EINVAL: bound already, short; EAFNOSUPPORT; EADDRNOTAVAIL: not ours; EACCES: port; EADDRINUSE."""
        if self.domain == so.AF_INET:
            wanted = parse4_untrusted(address, unspec_any=True)
        else:
            wanted = parse6_untrusted(address)
            if len(wanted.address) == 4 and self.v6_only:
                raise LinuxError(errno.EINVAL)
        self._check_bindable(wanted)
        if 0 < wanted.port < self.first_unprivileged and not task.cred.has_cap(ca.CAP_NET_BIND_SERVICE):
            raise LinuxError(errno.EACCES)
        if self.owns_port or not self.may_bind():
            raise LinuxError(errno.EINVAL)
        self._take_port(self.claim_of(wanted.address), wanted.port)
        self.local = wanted.address
        self.scope = wanted.scope
        self.user_port = wanted.port != 0
        self.user_address = not is_any(wanted.address)

    def may_bind(self) -> bool:
        """False: the state forbids a new name."""
        return True

    def _check_bindable(self, wanted: Endpoint) -> None:
        """EADDRNOTAVAIL: the address is not this host's; EINVAL: a link-local one without an interface."""
        address = wanted.address
        if is_any(address):
            return
        if is_link_local6(address):
            if not wanted.scope:
                raise LinuxError(errno.EINVAL)
            if self.network.interface(wanted.scope) is None:
                raise LinuxError(errno.ENODEV)
        kind = self.network.kind_of(address)
        if kind == rt.RTN_UNSPEC and not self.settings.get(_FREEBIND) and not self.settings.get(_TRANSPARENT):
            raise LinuxError(errno.EADDRNOTAVAIL)

    def _take_port(self, claim: bytes, port: int) -> None:
        """Own `port`, or a free one for 0. EADDRINUSE."""
        if not port:
            port = self.ports.choose(self, claim)
        elif self.ports.conflicts(self, claim, port):
            self.network.forget_expired(self.kernel.clock.monotonic_ns())
            if self.ports.conflicts(self, claim, port):
                raise LinuxError(errno.EADDRINUSE)
        self.claim = claim
        self.own_port(port)

    def own_port(self, port: int) -> None:
        self.local_port = port
        self.owns_port = True
        self.ports.add(self, port)

    def give_up_port(self) -> None:
        if self.owns_port:
            self.owns_port = False
            self.ports.remove(self, self.local_port)

    def auto_bind(self) -> None:
        """A name for a socket that is used without one."""
        if not self.owns_port:
            self._take_port(self.claim_of(self.local), 0)

    def destination_of(self, wanted: Endpoint) -> Endpoint:
        """Where a connect or send to `wanted` goes: "any" means this host; EINVAL, ENETUNREACH by family rules."""
        address = wanted.address
        if self.domain == so.AF_INET6:
            if len(address) == 4:
                if self.v6_only or (len(self.local) == 16 and not is_any(self.local)):
                    raise LinuxError(errno.ENETUNREACH)
                return wanted._replace(address=LOOPBACK4) if is_any(address) else wanted
            if len(self.local) == 4 and not is_any(address):
                raise LinuxError(errno.ENETUNREACH)
            if is_any(address):
                return wanted._replace(address=LOOPBACK4 if len(self.local) == 4 else LOOPBACK6)
            return wanted
        return wanted._replace(address=LOOPBACK4) if is_any(address) else wanted

    @staticmethod
    def is_unspec(address: bytes) -> bool:
        """AF_UNSPEC: connect(2) is to undo the connection. EINVAL: too short to tell."""
        if len(address) < 2:
            raise LinuxError(errno.EINVAL)
        return address[:2] == UNSPEC

    # --- options ---
    def get_option(self, task: Task, level: int, name: int) -> bytes:
        """ENOPROTOOPT: unknown; EOPNOTSUPP: the level is none of this socket's."""
        return get_ip_option(self, level, name)

    def set_option(self, task: Task, level: int, name: int, value: bytes) -> None:
        set_ip_option(task, self, level, name, value)

    def option_set(self, level: int, name: int) -> None:
        if self.far is not None:
            self.far.option_changed(level, name)

    def bind_device(self, name: bytes) -> None:
        """SO_BINDTODEVICE: only by this interface; b"": by any. ENODEV."""
        if not name:
            self.bound_interface = 0
            return
        found = self.network.interface_named(name)
        if found is None:
            raise LinuxError(errno.ENODEV)
        self.bound_interface = found.ifindex

    def bound_device(self) -> bytes:
        found = self.network.interface(self.bound_interface) if self.bound_interface else None
        return found.name + b"\0" if found is not None else b""

    def set_flags(self, flags: int) -> None:
        self.flags = (flags & ~fc.O_ACCMODE) | fc.O_RDWR

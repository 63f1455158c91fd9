"""Slirp: what becomes of packets that leave the virtual network, in a stack whose interfaces accept any destination.

    TCP    a SYN is held, the host connects, then both connections are pumped into each other (tcp.py, pump.py)
    UDP    one connected host socket a flow (datagrams.py)
    ICMP   echo requests by the host's ping sockets

The stack's own addresses mean the stack itself, services included. With `host_loopback` what no socket here wants of
them goes to the host's loopback (passt's --map-gw; off by default: services that listen there trust who reaches them).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.icmp import PROHIBITED
from services.netstackd.slirp.datagrams import EchoFlow, FlowTable, UdpFlow
from services.netstackd.slirp.destinations import LOOPBACK4, LOOPBACK6, Network, refusal
from services.netstackd.slirp.host import ECHO, FAILED, TCP, UDP, Host, HostSocket
from services.netstackd.slirp.pump import NOTHING, Pumps
from services.netstackd.slirp.tcp import REFUSED, HeldSyn, TcpForwarder
from services.netstackd.storage.packet import Packet

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack

_TCP_CONNECTIONS: Final = COUNTER["SlirpTcpConnections"]
_TCP_REFUSED: Final = COUNTER["SlirpTcpRefused"]
_UDP_FLOWS: Final = COUNTER["SlirpUdpFlows"]
_ECHO_FLOWS: Final = COUNTER["SlirpEchoFlows"]
_DESTINATION: Final = COUNTER["DropSlirpDestination"]
_FULL: Final = COUNTER["DropSlirpTableFull"]
_FIRST_BYTES: Final = 65536

MAX_CONNECTIONS: Final = 4096
MAX_HELD: Final = 512


class Slirp:
    """See the module docstring. `cover(iface)` begins on an interface."""

    def __init__(
        self,
        stack: Stack,
        host: Host,
        pumps: Pumps,
        flows: FlowTable,
        *,
        host_loopback: bool = False,
        denied: tuple[Network, ...] = (),
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._stack = stack
        self.host = host
        self.host_loopback = host_loopback
        self.denied = denied
        self.max_connections = max_connections
        self.pumps = pumps
        self.tcp = TcpForwarder(stack, self._on_syn, min(MAX_HELD, max_connections))
        self.flows = flows
        self.echoes: dict[tuple[int, int, int, int], EchoFlow] = {}
        stack.tcp.forwarder = self.tcp
        stack.udp.forwarder = self._on_datagram
        stack.icmp4.forwarder = stack.icmp6.forwarder = self._on_echo

    def configure(self, host_loopback: bool, denied: tuple[Network, ...], max_connections: int) -> None:
        """Other limits and permissions, for what begins from now on."""
        self.host_loopback, self.denied = host_loopback, denied
        self.max_connections = max_connections
        self.tcp.limit = min(MAX_HELD, max_connections)

    def cover(self, iface: Interface, on: bool = True) -> None:
        """Accept any destination there (or no longer)."""
        if iface.accept_any != on:
            self._stack.configure(iface, accept_any=on)

    # -- where to --

    def _target(self, packet: Packet) -> int | None:
        """The host's address for a packet's destination; None when it may not go there, which is counted."""
        version, destination = packet.version, packet.dst
        if self._stack.interface_of(version, destination) is not None:
            if self.host_loopback:
                return LOOPBACK4 if version == 4 else LOOPBACK6
            return None
        if refusal(version, destination, self.denied):
            self._stack.counters.values[_DESTINATION] += 1
            self._stack.send_unreachable(packet, PROHIBITED)
            return None
        return destination

    def _is_ours(self, packet: Packet) -> bool:
        return self._stack.interface_of(packet.version, packet.dst) is not None

    # -- TCP --

    def _on_syn(self, held: HeldSyn) -> bool:
        packet = held.packet
        ours = self._is_ours(packet)
        target = self._target(packet)
        if target is None:
            return not ours  # one of ours is refused by a reset, as by a host without a listener
        if len(self.pumps) + len(self.tcp.held) > self.max_connections:
            self._stack.counters.values[_FULL] += 1
            self.tcp.forget(held)
            return True
        self.host.connect(TCP, held.version, target, packet.dport, partial(self._connecting, held))
        return True

    def _connecting(self, held: HeldSyn, result: HostSocket | int) -> None:
        if isinstance(result, int):
            if not held.gone:
                self._failed(held, result)
        elif held.gone:
            result.close(reset=True)
        else:
            held.host = result
            result.watch(partial(self._outcome, held), edge=True)

    def _outcome(self, held: HeldSyn, events: int) -> None:
        """The host's connection stands, or never will."""
        host = held.host
        if held.gone or host is None:
            return
        received = NOTHING
        if events & FAILED:
            try:
                received = host.receive(_FIRST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                host.close()
                self._failed(held, error.errno or 0)
                return
        guest = self.tcp.complete(held)
        self._stack.counters.values[_TCP_CONNECTIONS] += 1
        self.pumps.join(guest, host, received)

    def _failed(self, held: HeldSyn, number: int) -> None:
        self._stack.counters.values[_TCP_REFUSED] += 1
        if number in REFUSED:
            self.tcp.refuse(held)
        else:
            self.tcp.unreachable(held, number)

    # -- datagrams --

    def _on_datagram(self, packet: Packet) -> bool:
        ours = self._is_ours(packet)
        target = self._target(packet)
        if target is None:
            return not ours
        if not self.flows.make_room():
            return True
        flow = UdpFlow.out(self._stack, self.flows, packet)
        self.flows.add(flow)
        self._stack.counters.values[_UDP_FLOWS] += 1
        flow.enqueue(packet)
        self.host.connect(UDP, packet.version, target, packet.dport, flow.opened)
        return True

    def _on_echo(self, packet: Packet) -> None:
        ident = int.from_bytes(packet.head[packet.l4 + 4 : packet.l4 + 6], "big")
        flow = self.echoes.get((packet.version, packet.src, packet.dst, ident))
        if flow is None:
            target = self._target(packet)
            if target is None or not self.flows.make_room():
                return
            flow = EchoFlow(self._stack, self.flows, packet, self._echo_over)
            self.flows.add(flow)
            self.echoes[flow.key] = flow
            self._stack.counters.values[_ECHO_FLOWS] += 1
            flow.request(packet)
            self.host.connect(ECHO, packet.version, target, 0, flow.opened)
        else:
            flow.request(packet)

    def _echo_over(self, flow: EchoFlow) -> None:
        self.echoes.pop(flow.key, None)

    # -- the end --

    def close(self) -> None:
        """End everything, and leave the stack as it was."""
        stack = self._stack
        stack.tcp.forwarder = None
        stack.udp.forwarder = None
        stack.icmp4.forwarder = stack.icmp6.forwarder = None
        for iface in stack.interfaces.values():
            self.cover(iface, False)
        self.tcp.close()
        self.flows.close()
        self.pumps.close()

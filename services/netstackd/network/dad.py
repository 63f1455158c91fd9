"""Duplicate address detection for IPv6 (RFC 4862 section 5.4, RFC 7527) and address conflict detection for IPv4
(RFC 5227), by one machine.

    WAIT      a random delay, so that hosts that start together do not speak together
    PROBE     ask several times whether anybody has the address
    ANNOUNCE  IPv4 only: say that we have it

Hearing of the address from somebody else before it is ours ends it (`Addresses.failed`). Afterwards an IPv4 address is
defended once in DEFEND_INTERVAL (RFC 5227 section 2.4, b).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.neighbours import RETRANS, SECOND
from services.netstackd.storage.timers import Timer
from services.netstackd.wire.arp import REQUEST

if TYPE_CHECKING:
    from services.netstackd.network.addresses import Address
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack

# RFC 5227 section 1.1
PROBE_WAIT: Final = SECOND
PROBE_NUM: Final = 3
PROBE_MIN: Final = SECOND
PROBE_MAX: Final = 2 * SECOND
ANNOUNCE_WAIT: Final = 2 * SECOND
ANNOUNCE_NUM: Final = 2
ANNOUNCE_INTERVAL: Final = 2 * SECOND
DEFEND_INTERVAL: Final = 10 * SECOND

_CONFLICTS: Final = COUNTER["NeighDadConflicts"]


class _Detection:
    __slots__ = ("address", "announcements", "nonce", "probes", "timer")

    def __init__(self, address: Address, probes: int, timer: Timer) -> None:
        self.address = address
        self.probes = probes  # still to send
        self.announcements = 0
        self.nonce = b""
        self.timer = timer


class Dad:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._running: dict[Address, _Detection] = {}
        self._defended: dict[Address, int] = {}  # when we last spoke up for an address

    def start(self, address: Address) -> None:
        """Begin for a tentative address whose interface is up."""
        stack = self._stack
        self.stop(address)
        probes = PROBE_NUM if address.version == 4 else address.iface.dad_transmits
        timer = stack.timers.new(lambda now: self._step(detection, now))
        detection = self._running[address] = _Detection(address, probes, timer)
        # RFC 4862 section 5.4.2 and RFC 5227 section 2.1.1: between 0 and 1 second.
        timer.set(stack.now + stack.rng.randrange(PROBE_WAIT))

    def stop(self, address: Address) -> None:
        """The address goes, or its interface is down."""
        detection = self._running.pop(address, None)
        if detection is not None:
            detection.timer.cancel()
        self._defended.pop(address, None)

    def _step(self, detection: _Detection, now: int) -> None:
        address = detection.address
        stack = self._stack
        if detection.probes > 0:
            detection.probes -= 1
            if address.version == 4:
                stack.arp.probe(address.iface, address.address)
                wait = PROBE_MIN + stack.rng.randrange(PROBE_MAX - PROBE_MIN) if detection.probes else ANNOUNCE_WAIT
            else:
                detection.nonce = stack.rng.getrandbits(48).to_bytes(6, "big")
                stack.ndp.probe(address.iface, address.address, detection.nonce)
                wait = stack.neighbours6.retrans_time.get(address.iface.index, RETRANS)
            detection.timer.set(now + wait)
            return
        if address.tentative:
            stack.addresses.confirmed(address)
            detection.announcements = ANNOUNCE_NUM if address.version == 4 else 0
        if detection.announcements > 0:
            detection.announcements -= 1
            stack.arp.announce(address.iface, address.address)
            if detection.announcements:
                detection.timer.set(now + ANNOUNCE_INTERVAL)
                return
        self._running.pop(address, None)

    def _conflict(self, address: Address) -> None:
        self._stack.counters.values[_CONFLICTS] += 1
        self.stop(address)
        self._stack.addresses.failed(address)

    # -- what is heard --

    def heard_solicitation(self, address: Address, nonce: bytes) -> None:
        """Another node looks for a duplicate of the same address (RFC 4862 section 5.4.3); our own probe that comes
        back over a looped link has our nonce (RFC 7527 section 4.2)."""
        detection = self._running.get(address)
        if detection is not None and address.tentative and not (nonce and nonce == detection.nonce):
            self._conflict(address)

    def heard_advertisement(self, address: Address) -> None:
        """Somebody says that the address is theirs (RFC 4862 section 5.4.4)."""
        if address.tentative:
            self._conflict(address)
        else:
            self._stack.counters.values[_CONFLICTS] += 1

    def heard_arp(self, iface: Interface, operation: int, sender: bytes, sender_ip: int, target_ip: int) -> None:
        """Any ARP packet (RFC 5227 section 2.1.1 and 2.4)."""
        if sender == iface.mac:
            return
        addresses = self._stack.addresses
        owner = addresses.on_interface(iface, 4, sender_ip)
        if owner is not None:
            if owner.tentative:
                self._conflict(owner)
            elif owner.detect:
                self._defend(owner)
            return
        if sender_ip == 0 and operation == REQUEST:
            wanted = addresses.on_interface(iface, 4, target_ip)
            if wanted is not None and wanted.tentative:
                self._conflict(wanted)  # somebody probes for the same address at the same time

    def _defend(self, address: Address) -> None:
        stack = self._stack
        last = self._defended.get(address)
        if last is not None and stack.now - last < DEFEND_INTERVAL:
            self._conflict(address)
            return
        stack.counters.values[_CONFLICTS] += 1
        self._defended[address] = stack.now
        stack.arp.announce(address.iface, address.address)

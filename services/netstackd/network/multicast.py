"""Multicast group membership of this host: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), with the older versions where an
older querier is on the link (RFC 3376 section 7.2.1, RFC 3810 section 8.2.1).

A group on an interface has members: sockets with a filter each (INCLUDE some sources, or EXCLUDE some), and the stack
itself, which excludes none. What the interface wants is their union (RFC 3376 section 3.2). A change of that is
reported ROBUSTNESS times at random moments; queries are answered at a random moment within the time they allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import LOOPBACK, Interface
from services.netstackd.network.neighbours import SECOND
from services.netstackd.network.routes import MULTICAST, Destination
from services.netstackd.storage.packet import Packet
from services.netstackd.storage.timers import Timer
from services.netstackd.wire import icmpv6, igmp, ipv6_extensions, mld
from services.netstackd.wire.ethernet import multicast_address
from services.netstackd.wire.igmp import (
    ALLOW_NEW_SOURCES,
    BLOCK_OLD_SOURCES,
    CHANGE_TO_EXCLUDE,
    CHANGE_TO_INCLUDE,
    MODE_IS_EXCLUDE,
    MODE_IS_INCLUDE,
    Query,
    Records,
)
from services.netstackd.wire.ipv4_options import ROUTER_ALERT
from services.netstackd.wire.numbers import (
    IPV4_ALL_ROUTERS,
    IPV4_ALL_SYSTEMS,
    IPV4_IGMPV3,
    IPV6_ALL_NODES,
    IPV6_ALL_ROUTERS,
    IPV6_MLDV2_ROUTERS,
    PROTO_ICMPV6,
    PROTO_IGMP,
    is_link_local_v6,
)

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

ROBUSTNESS: Final = 2
UNSOLICITED_INTERVAL: Final = SECOND  # RFC 3376 section 8.11
QUERY_INTERVAL: Final = 125 * SECOND
V1_RESPONSE: Final = 10 * SECOND
GROUP_LIMIT: Final = 4096  # per interface
REPORT_BYTES: Final = 1200  # records that go into one report, in bytes

Filter = tuple[bool, frozenset[int]]  # (exclude these sources, else include these)
EVERYTHING: Final[Filter] = (True, frozenset())
NOTHING: Final[Filter] = (False, frozenset())

_MALFORMED: Final = COUNTER["DropMulticastMalformed"]
_OUT_REPORTS: Final = COUNTER["IgmpOutReports"]
_IN_QUERIES: Final = COUNTER["IgmpInQueries"]
_ALERT_V4: Final = bytes((ROUTER_ALERT, 4, 0, 0))


class Group:
    """One group on one interface."""

    __slots__ = ("address", "answer", "change", "filter", "last_reporter", "members", "pending", "reported")

    def __init__(self, address: int, answer: Timer, change: Timer) -> None:
        self.address = address
        self.members: dict[object, Filter] = {}
        self.filter: Filter = NOTHING  # the union
        self.reported: Filter = NOTHING  # what the link was told last
        self.pending = 0  # how often a change is still to be reported
        self.answer = answer  # to a query about this group
        self.change = change
        self.last_reporter = False


class _Link:
    """Groups and querier of one interface."""

    __slots__ = ("answer", "groups", "v1_until", "v2_until")

    def __init__(self, answer: Timer) -> None:
        self.groups: dict[int, Group] = {}
        self.answer = answer  # to a general query
        self.v1_until = -1  # an IGMPv1 querier, or (IPv6) an MLDv1 one, was heard
        self.v2_until = -1  # an IGMPv2 querier was heard


class Multicast:
    """One version's groups on all interfaces."""

    def __init__(self, stack: Stack, version: int) -> None:
        self._stack = stack
        self.version = version
        self._links: dict[int, _Link] = {}
        self._all = IPV4_ALL_SYSTEMS if version == 4 else IPV6_ALL_NODES

    # -- membership --

    def wanted(self, iface: Interface, group: int) -> bool:
        """Whether packets for `group` that arrive on `iface` are ours."""
        if group == self._all:
            return True
        link = self._links.get(iface.index)
        if (link is not None and group in link.groups) or iface.kind == LOOPBACK:
            return True
        return self.version == 6 and group == IPV6_ALL_ROUTERS and iface.forwarding6

    def groups(self, iface: Interface) -> Iterator[Group]:
        """The groups of an interface."""
        link = self._links.get(iface.index)
        return iter(() if link is None else list(link.groups.values()))

    def join(self, iface: Interface, address: int, member: object = None, wanted: Filter = EVERYTHING) -> bool:
        """Become a member, or change the filter of one. False when the interface has GROUP_LIMIT groups."""
        link = self._link(iface)
        group = link.groups.get(address)
        if group is None:
            if len(link.groups) >= GROUP_LIMIT:
                return False
            timers = self._stack.timers
            group = Group(
                address,
                timers.new(lambda now: self._answer_group(iface, made)),
                timers.new(lambda now: self._report_change(iface, made)),
            )
            made = group
            link.groups[address] = group
            self._want_link_address(iface, address, 1)
            self._stack.routing(self.version).changed()
        group.members[member] = wanted
        self._recompute(iface, group)
        return True

    def leave(self, iface: Interface, address: int, member: object = None) -> bool:
        """No longer be a member; whether it was one."""
        link = self._link(iface)
        group = link.groups.get(address)
        if group is None or member not in group.members:
            return False
        del group.members[member]
        if not group.members:
            del link.groups[address]
            group.answer.cancel()
            self._want_link_address(iface, address, -1)
            self._stack.routing(self.version).changed()
        self._recompute(iface, group)
        return True

    def forget_interface(self, iface: Interface) -> None:
        """The interface goes for good."""
        link = self._links.pop(iface.index, None)
        if link is not None:
            link.answer.cancel()
            for group in link.groups.values():
                group.answer.cancel()
                group.change.cancel()

    def interface_up(self, iface: Interface) -> None:
        """Tell the link what we want, anew."""
        for group in self._link(iface).groups.values():
            group.reported = NOTHING
            self._recompute(iface, group)

    def _link(self, iface: Interface) -> _Link:
        link = self._links.get(iface.index)
        if link is None:
            link = self._links[iface.index] = _Link(self._stack.timers.new(lambda now: self._answer_general(iface)))
        return link

    def _want_link_address(self, iface: Interface, group: int, change: int) -> None:
        """Keep count of the link-layer groups that the interface has to receive."""
        device = iface.device
        address = multicast_address(self.version, group)
        count = device.multicast_macs.get(address, 0) + change
        if count > 0:
            device.multicast_macs[address] = count
        else:
            device.multicast_macs.pop(address, None)
        if device.on_multicast_change is not None:
            device.on_multicast_change(device)

    def _recompute(self, iface: Interface, group: Group) -> None:
        """RFC 3376 section 3.2: the union of what the members want."""
        excluding = [sources for exclude, sources in group.members.values() if exclude]
        including = frozenset().union(*(sources for exclude, sources in group.members.values() if not exclude))
        if excluding:
            group.filter = (True, frozenset.intersection(*excluding) - including)
        else:
            group.filter = (False, including)
        if group.filter == group.reported and not group.pending:
            return
        if not self._reportable(group.address) or iface.kind == LOOPBACK or not iface.up:
            return
        group.pending = ROBUSTNESS
        self._report_change(iface, group)

    def _reportable(self, group: int) -> bool:
        """RFC 3376 section 5: not all-systems; RFC 3810 section 6: not all-nodes, nor scopes 0 and 1."""
        if group == self._all:
            return False
        return self.version == 4 or (group >> 112 & 15) > 1

    # -- reports --

    def _compatibility(self, iface: Interface) -> int:
        """The version to speak: 1, 2 or 3 of IGMP; 1 or 2 of MLD."""
        link = self._link(iface)
        now = self._stack.now
        if self.version == 6:
            return 1 if link.v1_until > now else 2
        return 1 if link.v1_until > now else 2 if link.v2_until > now else 3

    def _report_change(self, iface: Interface, group: Group) -> None:
        """Say what changed (RFC 3376 section 5.1), and once more later."""
        old, new = group.reported, group.filter
        group.pending -= 1
        spoken = self._compatibility(iface)
        if spoken < (3 if self.version == 4 else 2):
            if new == NOTHING:
                self._send_old_leave(iface, group, spoken)
                group.pending = 0
            else:
                self._send_old_report(iface, group, spoken)
        else:
            self._send(iface, self._change_records(group.address, old, new))
        if group.pending > 0:
            group.change.set(self._stack.now + self._stack.rng.randrange(UNSOLICITED_INTERVAL))
        else:
            group.pending = 0
            group.reported = new

    @staticmethod
    def _change_records(group: int, old: Filter, new: Filter) -> Records:
        if old[0] != new[0]:
            return [(CHANGE_TO_EXCLUDE if new[0] else CHANGE_TO_INCLUDE, group, tuple(sorted(new[1])))]
        gained, lost = (old[1] - new[1], new[1] - old[1]) if new[0] else (new[1] - old[1], old[1] - new[1])
        records: Records = []
        if gained:
            records.append((ALLOW_NEW_SOURCES, group, tuple(sorted(gained))))
        if lost:
            records.append((BLOCK_OLD_SOURCES, group, tuple(sorted(lost))))
        return records

    @staticmethod
    def _state_record(group: Group, sources: frozenset[int] | None = None) -> Records:
        """Our state, or (RFC 3376 section 5.2, for a query about sources) which of those we want."""
        exclude, own = group.filter
        if sources is None:
            return [(MODE_IS_EXCLUDE if exclude else MODE_IS_INCLUDE, group.address, tuple(sorted(own)))]
        found = sources - own if exclude else sources & own
        return [(MODE_IS_INCLUDE, group.address, tuple(sorted(found)))] if found else []

    def _send(self, iface: Interface, records: Records) -> None:
        """Send reports with these records, as many as they need."""
        width = 4 if self.version == 4 else 16
        batch: Records = []
        size = 0
        for record in records:
            cost = 4 + width * (1 + len(record[2]))
            if batch and size + cost > REPORT_BYTES:
                self._send_report(iface, batch)
                batch, size = [], 0
            batch.append(record)
            size += cost
        if batch:
            self._send_report(iface, batch)

    def _send_report(self, iface: Interface, records: Records) -> None:
        self._stack.counters.values[_OUT_REPORTS] += 1
        if self.version == 4:
            self._send_igmp(iface, IPV4_IGMPV3, igmp.v3_report(records))
        else:
            rest, body = mld.v2_report(records)
            self._send_mld(iface, IPV6_MLDV2_ROUTERS, icmpv6.MLDV2_REPORT, rest, body)

    def _send_old_report(self, iface: Interface, group: Group, spoken: int) -> None:
        self._stack.counters.values[_OUT_REPORTS] += 1
        group.last_reporter = True
        if self.version == 4:
            kind = igmp.V1_REPORT if spoken == 1 else igmp.V2_REPORT
            self._send_igmp(iface, group.address, igmp.v2_message(kind, group.address))
        else:
            self._send_mld(iface, group.address, icmpv6.MLD_REPORT, 0, mld.v1_body(group.address))

    def _send_old_leave(self, iface: Interface, group: Group, spoken: int) -> None:
        """RFC 2236 section 3: when we were the last to report it."""
        if not group.last_reporter:
            return
        if self.version == 6:
            self._send_mld(iface, IPV6_ALL_ROUTERS, icmpv6.MLD_DONE, 0, mld.v1_body(group.address))
        elif spoken == 2:
            self._send_igmp(iface, IPV4_ALL_ROUTERS, igmp.v2_message(igmp.V2_LEAVE, group.address))

    def _send_igmp(self, iface: Interface, to: int, message: bytes) -> None:
        stack = self._stack
        way = Destination(MULTICAST, iface, to, None, iface.mtu)
        source = stack.routing4.select_source(to, iface, to)
        stack.ipv4.send(way, source, to, PROTO_IGMP, message, ttl=1, tos=0xC0, options=_ALERT_V4, loop=False)

    def _send_mld(self, iface: Interface, to: int, kind: int, rest: int, body: bytes) -> None:
        stack = self._stack
        way = Destination(MULTICAST, iface, to, None, iface.effective_mtu6)
        source = stack.addresses.link_local(iface)  # or zero (RFC 3590)
        stack.icmp6.counted(kind)
        message = icmpv6.message(source, to, kind, 0, rest, body)
        alert = bytes((PROTO_ICMPV6, 0)) + ipv6_extensions.router_alert()
        stack.ipv6.send(way, source, to, PROTO_ICMPV6, message, ttl=1, options=alert, loop=False)

    # -- queries --

    def input(self, packet: Packet) -> None:
        """A received IGMP message, or one of MLD whose checksum was good."""
        iface = packet.iface
        assert iface is not None
        message = bytes(memoryview(packet.head)[packet.l4 : packet.end])
        if self.version == 4:
            parsed = igmp.parse_igmp_untrusted(message)
            if parsed is None:
                self._stack.counters.values[_MALFORMED] += 1
                return
            kind, group = parsed
            is_query = kind == igmp.QUERY
            is_report = kind in (igmp.V1_REPORT, igmp.V2_REPORT)
        else:
            if len(message) < 8 or packet.ttl != 1 or not is_link_local_v6(packet.src):
                self._stack.counters.values[_MALFORMED] += 1
                return
            kind = message[0]
            group = int.from_bytes(message[8:24], "big")
            is_query = kind == icmpv6.MLD_QUERY
            is_report = kind == icmpv6.MLD_REPORT
        if is_query:
            parser = igmp.parse_query_untrusted if self.version == 4 else mld.parse_query_untrusted
            query = parser(message)
            if query is None:
                self._stack.counters.values[_MALFORMED] += 1
                return
            self._stack.counters.values[_IN_QUERIES] += 1
            self._query(iface, query)
        elif is_report:
            self._heard_report(iface, group)

    def _heard_report(self, iface: Interface, address: int) -> None:
        """Somebody else reported a group in the old way: that will do for the link (RFC 2236 section 3)."""
        group = self._link(iface).groups.get(address)
        if group is not None and self._compatibility(iface) < (3 if self.version == 4 else 2):
            group.answer.cancel()
            group.last_reporter = False

    def _query(self, iface: Interface, query: Query) -> None:
        link = self._link(iface)
        stack = self._stack
        now = stack.now
        response = query.max_response_ms * 1_000_000 or V1_RESPONSE
        older = ROBUSTNESS * QUERY_INTERVAL + response  # RFC 3376 section 8.12
        if query.version == 1:
            link.v1_until = now + older
        elif query.version == 2 and self.version == 4:
            link.v2_until = now + older
        delay = stack.rng.randrange(max(response, 1))
        if query.group == 0:
            _sooner(link.answer, now + delay)
            return
        group = link.groups.get(query.group)
        if group is None or not self._reportable(query.group):
            return
        if query.sources and not self._state_record(group, frozenset(query.sources)):
            return
        _sooner(group.answer, now + delay)

    def _answer_general(self, iface: Interface) -> None:
        """RFC 3376 section 5.2: the state of every group."""
        spoken = self._compatibility(iface)
        groups = [group for group in self._link(iface).groups.values() if self._reportable(group.address)]
        if spoken < (3 if self.version == 4 else 2):
            for group in groups:
                _sooner(group.answer, self._stack.now + self._stack.rng.randrange(UNSOLICITED_INTERVAL))
            return
        self._send(iface, [record for group in groups for record in self._state_record(group)])

    def _answer_group(self, iface: Interface, group: Group) -> None:
        spoken = self._compatibility(iface)
        if spoken < (3 if self.version == 4 else 2):
            self._send_old_report(iface, group, spoken)
        else:
            self._send(iface, self._state_record(group))


def _sooner(timer: Timer, when: int) -> None:
    """Set the timer unless it is due before that anyway."""
    if timer.deadline is None or timer.deadline > when:
        timer.set(when)

"""Opening links before the seal, and handing them over to a process that is sealed already.

The keeper (edge/keeper.py) opens what a configuration names: `open_base`. The sealed router inherits these links by
fork. On a reload the keeper opens the new ones and sends each as (`describe`, descriptors) through its channel; the
router makes links of them again by `adopt`. What needs no descriptor of its own (bridges, VLANs, faults, shapes) is
put around the base links inside the router: `dress`.
"""

from __future__ import annotations

import os
import random
import socket
import time
from hashlib import blake2s
from typing import Any, Final

from services.netstackd.config.model import InterfaceSpec
from services.netstackd.links.base import Link, VnetLink
from services.netstackd.links.fault import FaultLink
from services.netstackd.links.loopback import open_loopback
from services.netstackd.links.packet_socket import PacketLink, TaggedPacketLink, open_packet_socket
from services.netstackd.links.pcap import open_pcap
from services.netstackd.links.shaper import ShapedLink
from services.netstackd.links.tap import adopt_tap, open_tap
from services.netstackd.links.unix_socket import MessageLink, StreamLink, adopt_unix_socket, open_unix_socket

DEFAULT_MTU: Final = 1500
WITHOUT_FILES: Final = ("bridge", "vlan")

Description = dict[str, Any]


class LinkError(Exception):
    """A link cannot be opened: one line that says which, why, and what to do."""


def mac_of(spec: InterfaceSpec) -> bytes:
    """The configured hardware address, or a local one that stays the same for this machine and interface."""
    if spec.mac:
        return spec.mac
    try:
        with open("/etc/machine-id", "rb") as file:
            machine = file.read(64)
    except OSError:
        machine = os.uname().nodename.encode()
    link = spec.link
    end = ("listen",) if link.listen else ()  # the two ends of a unix link differ
    seed = "\0".join((spec.name, link.kind, link.device, link.netns, link.path, *end)).encode()
    digest = blake2s(seed, key=machine[:32], digest_size=6).digest()
    return bytes((digest[0] & 0xFC | 0x02,)) + digest[1:]


def open_base(spec: InterfaceSpec, vlans: bool = False) -> Link:
    """The link of an interface that has descriptors. `vlans`: VLAN interfaces are on it. LinkError."""
    link = spec.link
    mac, mtu = mac_of(spec), spec.mtu or DEFAULT_MTU
    netns = link.netns or None
    try:
        if link.kind in ("tap", "tun"):
            if link.fd >= 0:
                return adopt_tap(spec.name, link.fd, mac=mac, mtu=mtu, offload=link.offload)
            return open_tap(
                spec.name, link.device, mac=mac, mtu=mtu, tun=link.kind == "tun", netns=netns, offload=link.offload
            )
        if link.kind == "packet":
            return open_packet_socket(
                spec.name, link.device, mac=spec.mac or None, netns=netns, offload=link.offload, vlan=vlans
            )
        if link.kind == "unix":
            if link.fd >= 0:
                sock = socket.socket(fileno=link.fd)
                return adopt_unix_socket(
                    spec.name, sock, kind=link.framing, listening=link.listen, mac=mac, mtu=mtu, vnet=link.vnet
                )
            return open_unix_socket(
                spec.name, link.path, kind=link.framing, listen=link.listen, mac=mac, mtu=mtu, vnet=link.vnet
            )
        if link.kind == "pcap":
            return open_pcap(
                spec.name,
                read=link.read or None,
                write=link.write or None,
                mac=mac,
                mtu=mtu,
                wall=lambda: time.time_ns() - time.monotonic_ns(),
                paced=link.paced,
            )
        return open_loopback(spec.name, mtu=mtu)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LinkError(f"interface {spec.name}: {_what(spec)}: {why}{_advice(error)}") from None


def _what(spec: InterfaceSpec) -> str:
    link = spec.link
    where = f" in namespace {link.netns}" if link.netns else ""
    return f"{link.kind} {link.path or link.device or link.read or link.write or spec.name}{where}"


def _advice(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return " (run as root, or hand over a descriptor with fd = N)"
    if isinstance(error, FileNotFoundError):
        return " (make it first: the namespace, /dev/net/tun or the file is not there)"
    number = getattr(error, "errno", 0)
    if number == 16:
        return " (another process holds the device)"
    if number == 19:
        return " (there is no such interface: make it first)"
    return ""


def describe(link: Link) -> tuple[Description, list[int]]:
    """What `adopt` needs to make the link again, and its descriptors. LinkError for links that cannot travel."""
    about: Description = {
        "name": link.name,
        "kind": link.kind,
        "mac": link.mac,
        "mtu": link.mtu,
        "offload": link.offload,
        "framing": link.framing,
    }
    if isinstance(link, PacketLink):
        about["class"] = "tagged" if isinstance(link, TaggedPacketLink) else "packet"
    elif isinstance(link, StreamLink | MessageLink):
        about["class"] = "stream" if isinstance(link, StreamLink) else "message"
        about["listening"] = link.listening
        about["vnet"] = bool(link.offload)
    elif isinstance(link, VnetLink):
        about["class"] = "vnet"
    else:
        raise LinkError(f"interface {link.name}: a {link.kind} link cannot be added while running (restart netstackd)")
    return about, link.descriptors()


def adopt(about: Description, fd: int) -> Link:
    """The link that was described, on the descriptor that came with it. Makes no host call that the seal forbids."""
    name, mac, mtu, offload = about["name"], about["mac"], about["mtu"], about["offload"]
    kind = about["class"]
    if kind == "vnet":
        return VnetLink(name, about["kind"], fd=fd, mac=mac, mtu=mtu, offload=offload, framing=about["framing"])
    if kind in ("packet", "tagged"):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, fileno=fd)
        make = TaggedPacketLink if kind == "tagged" else PacketLink
        return make(name, sock, mac=mac, mtu=mtu, offload=offload)
    if kind == "stream":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
        return StreamLink(name, sock, listening=about["listening"], mac=mac, mtu=mtu)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd)
    return MessageLink(name, sock, listening=about["listening"], mac=mac, mtu=mtu, vnet=about["vnet"])


def dress(base: Link, spec: InterfaceSpec, rng: random.Random) -> Link:
    """The base link with the faults and the shape that its interface is configured to have."""
    link = base
    about = spec.link
    if not about.fault_rx.nothing or not about.fault_tx.nothing:
        seeded = random.Random(about.seed) if about.seed else rng
        link = FaultLink(link, seeded, rx=about.fault_rx, tx=about.fault_tx)
    if about.shape is not None:
        link = ShapedLink(link, about.shape)
    return link

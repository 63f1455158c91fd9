"""nmap's scans, hping3's floods and scapy's malformed packets: no exception, no growth, service goes on.

A few seconds each; NETSTACK_HOSTILE_SECONDS=60 for the full minute, and `-rP` shows what was measured.
"""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.netstack.hostile.conftest import MALFORMED, SECONDS, Battle

SCANS = [
    ("-sS", "-p-"),  # half-open
    ("-sT", "-p1-20000"),  # whole connections
    ("-sU", "-p1-5000"),
    ("-O", "-sV", "-p1-100", "--osscan-guess"),
    ("-sN", "-p1-20000"),  # no flags
    ("-sX", "-p1-20000"),  # FIN, PSH, URG
    ("-sF", "-f", "-p1-20000"),  # FIN, in eight-byte fragments
    ("-sA", "-p1-20000"),
    ("-sO",),  # protocols of IP
    ("-sS", "--badsum", "-p1-20000"),
]
PACE = ("-n", "-Pn", "-T5", "--max-retries", "1", "--min-rate", "3000")
FLOODS = {
    "syn": ("-S", "-p", "7", "--flood"),
    "syn-random-source": ("-S", "-p", "7", "--flood", "--rand-source"),
    "through-random-source": ("-S", "-p", "++1", "--flood", "--rand-source"),
    "udp": ("-2", "-p", "++1", "--flood", "-d", "100"),
    "icmp": ("-1", "--flood"),
    "fragments": ("-2", "-f", "-d", "3000", "--flood", "--rand-source"),
    "xmas": ("-F", "-P", "-U", "-S", "-A", "-p", "7", "--flood", "-d", "50"),
}

needs_nmap = pytest.mark.skipif(shutil.which("nmap") is None, reason="nmap is not installed")
needs_hping3 = pytest.mark.skipif(shutil.which("hping3") is None, reason="hping3 is not installed")


@needs_nmap
@pytest.mark.parametrize("target", ["10.3.0.1", "10.2.0.2", "fd03::1"])
def test_scans(battle: Battle, target: str) -> None:
    family = ("-6",) if ":" in target else ()
    scans = [("nmap", *family, *PACE, *scan, target) for scan in SCANS if not (family and scan[:2] == ("-sF", "-f"))]
    print(target, battle.endure(scans, one_by_one=False))


@needs_hping3
@pytest.mark.parametrize("kind", list(FLOODS))
def test_floods(battle: Battle, kind: str) -> None:
    target = "10.2.0.2" if kind.startswith("through") else "10.3.0.1"
    print(kind, battle.endure([("hping3", "-q", *FLOODS[kind], target)], packets=1000))


def test_malformed_packets(battle: Battle) -> None:
    pytest.importorskip("scapy")
    program = (sys.executable, MALFORMED, "bad0", battle.mac, str(SECONDS + 10), "10.3.0.1", "fd03::1")
    print("malformed", battle.endure([program], SECONDS + 3, packets=100))  # scapy needs a while to start

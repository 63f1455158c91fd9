"""Which rights a service keeps: capabilities, user, no_new_privs, and dying with its monitor.

Owns: the capability sets of the Gofer, dropping everything else, the Sentry's unprivileged user. Called in the new
process after its root was set up and before its own seal.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.launch.host_calls_unsafe import HostCalls

# <linux/capability.h>.
CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_SETGID = 6
CAP_SETUID = 7
CAP_NET_BIND_SERVICE = 10
CAP_SYS_ADMIN = 21
CAP_MKNOD = 27
CAP_LAST_CAP = 40
# <linux/prctl.h>.
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

SIGKILL = 9
#: The user and group that the Sentry and its guests' host processes run as when root starts a sandbox ("nobody").
UNPRIVILEGED_ID = 65534

#: What root's Gofer keeps to serve a read-only tree: reading any file that was exported.
GOFER_READ = 1 << CAP_DAC_READ_SEARCH
#: And for a writable one: writing any file, giving it the owner and the bits the guest asked for, device nodes.
GOFER_WRITE = GOFER_READ | 1 << CAP_DAC_OVERRIDE | 1 << CAP_CHOWN | 1 << CAP_FOWNER | 1 << CAP_FSETID | 1 << CAP_MKNOD

#: What root's broker of the host's network keeps: servers in the sandbox may listen on any port.
LOW_PORTS = 1 << CAP_NET_BIND_SERVICE
#: What it takes to become another user.
CHANGE_USER = 1 << CAP_SETGID | 1 << CAP_SETUID


def die_with_monitor(calls: HostCalls) -> None:
    """Have the kernel kill this process when the monitor's only thread ends (PR_SET_PDEATHSIG).

    A change of user or capabilities clears it (prctl(2)): call it again after those.
    """
    calls.prctl(PR_SET_PDEATHSIG, SIGKILL)


def keep_capabilities(calls: HostCalls, wanted: int) -> None:
    """Keep those of `wanted` that the process has; drop the rest, also from the bounding set, and bar new ones."""
    have = calls.effective_capabilities()
    for number in range(CAP_LAST_CAP + 1):
        if not wanted >> number & 1:
            try:
                calls.prctl(PR_CAPBSET_DROP, number)
            except OSError:
                break  # no CAP_SETPCAP, then no_new_privs below has to do
    calls.set_capabilities(have & wanted)
    calls.prctl(PR_SET_NO_NEW_PRIVS, 1)


def become_unprivileged(calls: HostCalls) -> None:
    """Become user and group UNPRIVILEGED_ID. Raises OSError where the host refuses.

    The process stays dumpable: the Sentry reads and writes the memory of its guests, which are forked from it and run
    as the same user (ptrace(2), "Ptrace access mode checking").
    """
    os.setresgid(UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
    os.setresuid(UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
    calls.prctl(PR_SET_DUMPABLE, 1)

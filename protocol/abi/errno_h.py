"""errno values, as <asm-generic/errno-base.h> and <asm-generic/errno.h> number them (Linux 6.x, x86-64).

Also the four kernel-internal restart codes of <linux/errno.h>, which a guest never sees: the dispatcher turns them into
EINTR or a restarted call.
"""

from __future__ import annotations

from typing import Final

EPERM: Final[int] = 1
ENOENT: Final[int] = 2
ESRCH: Final[int] = 3
EINTR: Final[int] = 4
EIO: Final[int] = 5
ENXIO: Final[int] = 6
E2BIG: Final[int] = 7
ENOEXEC: Final[int] = 8
EBADF: Final[int] = 9
ECHILD: Final[int] = 10
EAGAIN: Final[int] = 11
ENOMEM: Final[int] = 12
EACCES: Final[int] = 13
EFAULT: Final[int] = 14
ENOTBLK: Final[int] = 15
EBUSY: Final[int] = 16
EEXIST: Final[int] = 17
EXDEV: Final[int] = 18
ENODEV: Final[int] = 19
ENOTDIR: Final[int] = 20
EISDIR: Final[int] = 21
EINVAL: Final[int] = 22
ENFILE: Final[int] = 23
EMFILE: Final[int] = 24
ENOTTY: Final[int] = 25
ETXTBSY: Final[int] = 26
EFBIG: Final[int] = 27
ENOSPC: Final[int] = 28
ESPIPE: Final[int] = 29
EROFS: Final[int] = 30
EMLINK: Final[int] = 31
EPIPE: Final[int] = 32
EDOM: Final[int] = 33
ERANGE: Final[int] = 34
EDEADLK: Final[int] = 35
ENAMETOOLONG: Final[int] = 36
ENOLCK: Final[int] = 37
ENOSYS: Final[int] = 38
ENOTEMPTY: Final[int] = 39
ELOOP: Final[int] = 40
EWOULDBLOCK: Final[int] = 11
ENOMSG: Final[int] = 42
EIDRM: Final[int] = 43
ECHRNG: Final[int] = 44
EL2NSYNC: Final[int] = 45
EL3HLT: Final[int] = 46
EL3RST: Final[int] = 47
ELNRNG: Final[int] = 48
EUNATCH: Final[int] = 49
ENOCSI: Final[int] = 50
EL2HLT: Final[int] = 51
EBADE: Final[int] = 52
EBADR: Final[int] = 53
EXFULL: Final[int] = 54
ENOANO: Final[int] = 55
EBADRQC: Final[int] = 56
EBADSLT: Final[int] = 57
EDEADLOCK: Final[int] = 35
EBFONT: Final[int] = 59
ENOSTR: Final[int] = 60
ENODATA: Final[int] = 61
ETIME: Final[int] = 62
ENOSR: Final[int] = 63
ENONET: Final[int] = 64
ENOPKG: Final[int] = 65
EREMOTE: Final[int] = 66
ENOLINK: Final[int] = 67
EADV: Final[int] = 68
ESRMNT: Final[int] = 69
ECOMM: Final[int] = 70
EPROTO: Final[int] = 71
EMULTIHOP: Final[int] = 72
EDOTDOT: Final[int] = 73
EBADMSG: Final[int] = 74
EOVERFLOW: Final[int] = 75
ENOTUNIQ: Final[int] = 76
EBADFD: Final[int] = 77
EREMCHG: Final[int] = 78
ELIBACC: Final[int] = 79
ELIBBAD: Final[int] = 80
ELIBSCN: Final[int] = 81
ELIBMAX: Final[int] = 82
ELIBEXEC: Final[int] = 83
EILSEQ: Final[int] = 84
ERESTART: Final[int] = 85
ESTRPIPE: Final[int] = 86
EUSERS: Final[int] = 87
ENOTSOCK: Final[int] = 88
EDESTADDRREQ: Final[int] = 89
EMSGSIZE: Final[int] = 90
EPROTOTYPE: Final[int] = 91
ENOPROTOOPT: Final[int] = 92
EPROTONOSUPPORT: Final[int] = 93
ESOCKTNOSUPPORT: Final[int] = 94
EOPNOTSUPP: Final[int] = 95
EPFNOSUPPORT: Final[int] = 96
EAFNOSUPPORT: Final[int] = 97
EADDRINUSE: Final[int] = 98
EADDRNOTAVAIL: Final[int] = 99
ENETDOWN: Final[int] = 100
ENETUNREACH: Final[int] = 101
ENETRESET: Final[int] = 102
ECONNABORTED: Final[int] = 103
ECONNRESET: Final[int] = 104
ENOBUFS: Final[int] = 105
EISCONN: Final[int] = 106
ENOTCONN: Final[int] = 107
ESHUTDOWN: Final[int] = 108
ETOOMANYREFS: Final[int] = 109
ETIMEDOUT: Final[int] = 110
ECONNREFUSED: Final[int] = 111
EHOSTDOWN: Final[int] = 112
EHOSTUNREACH: Final[int] = 113
EALREADY: Final[int] = 114
EINPROGRESS: Final[int] = 115
ESTALE: Final[int] = 116
EUCLEAN: Final[int] = 117
ENOTNAM: Final[int] = 118
ENAVAIL: Final[int] = 119
EISNAM: Final[int] = 120
EREMOTEIO: Final[int] = 121
EDQUOT: Final[int] = 122
ENOMEDIUM: Final[int] = 123
EMEDIUMTYPE: Final[int] = 124
ECANCELED: Final[int] = 125
ENOKEY: Final[int] = 126
EKEYEXPIRED: Final[int] = 127
EKEYREVOKED: Final[int] = 128
EKEYREJECTED: Final[int] = 129
EOWNERDEAD: Final[int] = 130
ENOTRECOVERABLE: Final[int] = 131
ERFKILL: Final[int] = 132
EHWPOISON: Final[int] = 133

# Kernel-internal, never returned to a guest (include/linux/errno.h).
ERESTARTSYS: Final[int] = 512
ERESTARTNOINTR: Final[int] = 513
ERESTARTNOHAND: Final[int] = 514
ENOIOCTLCMD: Final[int] = 515
ERESTART_RESTARTBLOCK: Final[int] = 516

#: The largest number that the kernel returns as a negated errno; results in -4095..-1 are errors.
MAX_ERRNO: Final[int] = 4095

#: Second names of the same number; name_of never answers with one of these.
_ALIASES: Final = frozenset({"EWOULDBLOCK", "EDEADLOCK", "ENOTSUP"})
ENOTSUP: Final[int] = EOPNOTSUPP

_NAMES: Final[dict[int, str]] = {
    value: name
    for name, value in list(globals().items())
    if name[0] == "E" and isinstance(value, int) and name not in _ALIASES
}


def name_of(errno: int) -> str:
    """The symbolic name of `errno` (a positive number), as strace prints it; a bare number where there is none."""
    return _NAMES.get(errno, str(errno))

"""Every system call number of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl, Linux 6.17), and its name.

NAMES maps number to name; NUMBERS the other way; NR_<name> are the numbers as constants for code that must not look up.
Numbers 337 to 423 are unused on this architecture; 512 and above belong to x32, which no guest may use.
"""

from __future__ import annotations

from typing import Final

NR_read: Final[int] = 0
NR_write: Final[int] = 1
NR_open: Final[int] = 2
NR_close: Final[int] = 3
NR_stat: Final[int] = 4
NR_fstat: Final[int] = 5
NR_lstat: Final[int] = 6
NR_poll: Final[int] = 7
NR_lseek: Final[int] = 8
NR_mmap: Final[int] = 9
NR_mprotect: Final[int] = 10
NR_munmap: Final[int] = 11
NR_brk: Final[int] = 12
NR_rt_sigaction: Final[int] = 13
NR_rt_sigprocmask: Final[int] = 14
NR_rt_sigreturn: Final[int] = 15
NR_ioctl: Final[int] = 16
NR_pread64: Final[int] = 17
NR_pwrite64: Final[int] = 18
NR_readv: Final[int] = 19
NR_writev: Final[int] = 20
NR_access: Final[int] = 21
NR_pipe: Final[int] = 22
NR_select: Final[int] = 23
NR_sched_yield: Final[int] = 24
NR_mremap: Final[int] = 25
NR_msync: Final[int] = 26
NR_mincore: Final[int] = 27
NR_madvise: Final[int] = 28
NR_shmget: Final[int] = 29
NR_shmat: Final[int] = 30
NR_shmctl: Final[int] = 31
NR_dup: Final[int] = 32
NR_dup2: Final[int] = 33
NR_pause: Final[int] = 34
NR_nanosleep: Final[int] = 35
NR_getitimer: Final[int] = 36
NR_alarm: Final[int] = 37
NR_setitimer: Final[int] = 38
NR_getpid: Final[int] = 39
NR_sendfile: Final[int] = 40
NR_socket: Final[int] = 41
NR_connect: Final[int] = 42
NR_accept: Final[int] = 43
NR_sendto: Final[int] = 44
NR_recvfrom: Final[int] = 45
NR_sendmsg: Final[int] = 46
NR_recvmsg: Final[int] = 47
NR_shutdown: Final[int] = 48
NR_bind: Final[int] = 49
NR_listen: Final[int] = 50
NR_getsockname: Final[int] = 51
NR_getpeername: Final[int] = 52
NR_socketpair: Final[int] = 53
NR_setsockopt: Final[int] = 54
NR_getsockopt: Final[int] = 55
NR_clone: Final[int] = 56
NR_fork: Final[int] = 57
NR_vfork: Final[int] = 58
NR_execve: Final[int] = 59
NR_exit: Final[int] = 60
NR_wait4: Final[int] = 61
NR_kill: Final[int] = 62
NR_uname: Final[int] = 63
NR_semget: Final[int] = 64
NR_semop: Final[int] = 65
NR_semctl: Final[int] = 66
NR_shmdt: Final[int] = 67
NR_msgget: Final[int] = 68
NR_msgsnd: Final[int] = 69
NR_msgrcv: Final[int] = 70
NR_msgctl: Final[int] = 71
NR_fcntl: Final[int] = 72
NR_flock: Final[int] = 73
NR_fsync: Final[int] = 74
NR_fdatasync: Final[int] = 75
NR_truncate: Final[int] = 76
NR_ftruncate: Final[int] = 77
NR_getdents: Final[int] = 78
NR_getcwd: Final[int] = 79
NR_chdir: Final[int] = 80
NR_fchdir: Final[int] = 81
NR_rename: Final[int] = 82
NR_mkdir: Final[int] = 83
NR_rmdir: Final[int] = 84
NR_creat: Final[int] = 85
NR_link: Final[int] = 86
NR_unlink: Final[int] = 87
NR_symlink: Final[int] = 88
NR_readlink: Final[int] = 89
NR_chmod: Final[int] = 90
NR_fchmod: Final[int] = 91
NR_chown: Final[int] = 92
NR_fchown: Final[int] = 93
NR_lchown: Final[int] = 94
NR_umask: Final[int] = 95
NR_gettimeofday: Final[int] = 96
NR_getrlimit: Final[int] = 97
NR_getrusage: Final[int] = 98
NR_sysinfo: Final[int] = 99
NR_times: Final[int] = 100
NR_ptrace: Final[int] = 101
NR_getuid: Final[int] = 102
NR_syslog: Final[int] = 103
NR_getgid: Final[int] = 104
NR_setuid: Final[int] = 105
NR_setgid: Final[int] = 106
NR_geteuid: Final[int] = 107
NR_getegid: Final[int] = 108
NR_setpgid: Final[int] = 109
NR_getppid: Final[int] = 110
NR_getpgrp: Final[int] = 111
NR_setsid: Final[int] = 112
NR_setreuid: Final[int] = 113
NR_setregid: Final[int] = 114
NR_getgroups: Final[int] = 115
NR_setgroups: Final[int] = 116
NR_setresuid: Final[int] = 117
NR_getresuid: Final[int] = 118
NR_setresgid: Final[int] = 119
NR_getresgid: Final[int] = 120
NR_getpgid: Final[int] = 121
NR_setfsuid: Final[int] = 122
NR_setfsgid: Final[int] = 123
NR_getsid: Final[int] = 124
NR_capget: Final[int] = 125
NR_capset: Final[int] = 126
NR_rt_sigpending: Final[int] = 127
NR_rt_sigtimedwait: Final[int] = 128
NR_rt_sigqueueinfo: Final[int] = 129
NR_rt_sigsuspend: Final[int] = 130
NR_sigaltstack: Final[int] = 131
NR_utime: Final[int] = 132
NR_mknod: Final[int] = 133
NR_uselib: Final[int] = 134
NR_personality: Final[int] = 135
NR_ustat: Final[int] = 136
NR_statfs: Final[int] = 137
NR_fstatfs: Final[int] = 138
NR_sysfs: Final[int] = 139
NR_getpriority: Final[int] = 140
NR_setpriority: Final[int] = 141
NR_sched_setparam: Final[int] = 142
NR_sched_getparam: Final[int] = 143
NR_sched_setscheduler: Final[int] = 144
NR_sched_getscheduler: Final[int] = 145
NR_sched_get_priority_max: Final[int] = 146
NR_sched_get_priority_min: Final[int] = 147
NR_sched_rr_get_interval: Final[int] = 148
NR_mlock: Final[int] = 149
NR_munlock: Final[int] = 150
NR_mlockall: Final[int] = 151
NR_munlockall: Final[int] = 152
NR_vhangup: Final[int] = 153
NR_modify_ldt: Final[int] = 154
NR_pivot_root: Final[int] = 155
NR__sysctl: Final[int] = 156
NR_prctl: Final[int] = 157
NR_arch_prctl: Final[int] = 158
NR_adjtimex: Final[int] = 159
NR_setrlimit: Final[int] = 160
NR_chroot: Final[int] = 161
NR_sync: Final[int] = 162
NR_acct: Final[int] = 163
NR_settimeofday: Final[int] = 164
NR_mount: Final[int] = 165
NR_umount2: Final[int] = 166
NR_swapon: Final[int] = 167
NR_swapoff: Final[int] = 168
NR_reboot: Final[int] = 169
NR_sethostname: Final[int] = 170
NR_setdomainname: Final[int] = 171
NR_iopl: Final[int] = 172
NR_ioperm: Final[int] = 173
NR_create_module: Final[int] = 174
NR_init_module: Final[int] = 175
NR_delete_module: Final[int] = 176
NR_get_kernel_syms: Final[int] = 177
NR_query_module: Final[int] = 178
NR_quotactl: Final[int] = 179
NR_nfsservctl: Final[int] = 180
NR_getpmsg: Final[int] = 181
NR_putpmsg: Final[int] = 182
NR_afs_syscall: Final[int] = 183
NR_tuxcall: Final[int] = 184
NR_security: Final[int] = 185
NR_gettid: Final[int] = 186
NR_readahead: Final[int] = 187
NR_setxattr: Final[int] = 188
NR_lsetxattr: Final[int] = 189
NR_fsetxattr: Final[int] = 190
NR_getxattr: Final[int] = 191
NR_lgetxattr: Final[int] = 192
NR_fgetxattr: Final[int] = 193
NR_listxattr: Final[int] = 194
NR_llistxattr: Final[int] = 195
NR_flistxattr: Final[int] = 196
NR_removexattr: Final[int] = 197
NR_lremovexattr: Final[int] = 198
NR_fremovexattr: Final[int] = 199
NR_tkill: Final[int] = 200
NR_time: Final[int] = 201
NR_futex: Final[int] = 202
NR_sched_setaffinity: Final[int] = 203
NR_sched_getaffinity: Final[int] = 204
NR_set_thread_area: Final[int] = 205
NR_io_setup: Final[int] = 206
NR_io_destroy: Final[int] = 207
NR_io_getevents: Final[int] = 208
NR_io_submit: Final[int] = 209
NR_io_cancel: Final[int] = 210
NR_get_thread_area: Final[int] = 211
NR_lookup_dcookie: Final[int] = 212
NR_epoll_create: Final[int] = 213
NR_epoll_ctl_old: Final[int] = 214
NR_epoll_wait_old: Final[int] = 215
NR_remap_file_pages: Final[int] = 216
NR_getdents64: Final[int] = 217
NR_set_tid_address: Final[int] = 218
NR_restart_syscall: Final[int] = 219
NR_semtimedop: Final[int] = 220
NR_fadvise64: Final[int] = 221
NR_timer_create: Final[int] = 222
NR_timer_settime: Final[int] = 223
NR_timer_gettime: Final[int] = 224
NR_timer_getoverrun: Final[int] = 225
NR_timer_delete: Final[int] = 226
NR_clock_settime: Final[int] = 227
NR_clock_gettime: Final[int] = 228
NR_clock_getres: Final[int] = 229
NR_clock_nanosleep: Final[int] = 230
NR_exit_group: Final[int] = 231
NR_epoll_wait: Final[int] = 232
NR_epoll_ctl: Final[int] = 233
NR_tgkill: Final[int] = 234
NR_utimes: Final[int] = 235
NR_vserver: Final[int] = 236
NR_mbind: Final[int] = 237
NR_set_mempolicy: Final[int] = 238
NR_get_mempolicy: Final[int] = 239
NR_mq_open: Final[int] = 240
NR_mq_unlink: Final[int] = 241
NR_mq_timedsend: Final[int] = 242
NR_mq_timedreceive: Final[int] = 243
NR_mq_notify: Final[int] = 244
NR_mq_getsetattr: Final[int] = 245
NR_kexec_load: Final[int] = 246
NR_waitid: Final[int] = 247
NR_add_key: Final[int] = 248
NR_request_key: Final[int] = 249
NR_keyctl: Final[int] = 250
NR_ioprio_set: Final[int] = 251
NR_ioprio_get: Final[int] = 252
NR_inotify_init: Final[int] = 253
NR_inotify_add_watch: Final[int] = 254
NR_inotify_rm_watch: Final[int] = 255
NR_migrate_pages: Final[int] = 256
NR_openat: Final[int] = 257
NR_mkdirat: Final[int] = 258
NR_mknodat: Final[int] = 259
NR_fchownat: Final[int] = 260
NR_futimesat: Final[int] = 261
NR_newfstatat: Final[int] = 262
NR_unlinkat: Final[int] = 263
NR_renameat: Final[int] = 264
NR_linkat: Final[int] = 265
NR_symlinkat: Final[int] = 266
NR_readlinkat: Final[int] = 267
NR_fchmodat: Final[int] = 268
NR_faccessat: Final[int] = 269
NR_pselect6: Final[int] = 270
NR_ppoll: Final[int] = 271
NR_unshare: Final[int] = 272
NR_set_robust_list: Final[int] = 273
NR_get_robust_list: Final[int] = 274
NR_splice: Final[int] = 275
NR_tee: Final[int] = 276
NR_sync_file_range: Final[int] = 277
NR_vmsplice: Final[int] = 278
NR_move_pages: Final[int] = 279
NR_utimensat: Final[int] = 280
NR_epoll_pwait: Final[int] = 281
NR_signalfd: Final[int] = 282
NR_timerfd_create: Final[int] = 283
NR_eventfd: Final[int] = 284
NR_fallocate: Final[int] = 285
NR_timerfd_settime: Final[int] = 286
NR_timerfd_gettime: Final[int] = 287
NR_accept4: Final[int] = 288
NR_signalfd4: Final[int] = 289
NR_eventfd2: Final[int] = 290
NR_epoll_create1: Final[int] = 291
NR_dup3: Final[int] = 292
NR_pipe2: Final[int] = 293
NR_inotify_init1: Final[int] = 294
NR_preadv: Final[int] = 295
NR_pwritev: Final[int] = 296
NR_rt_tgsigqueueinfo: Final[int] = 297
NR_perf_event_open: Final[int] = 298
NR_recvmmsg: Final[int] = 299
NR_fanotify_init: Final[int] = 300
NR_fanotify_mark: Final[int] = 301
NR_prlimit64: Final[int] = 302
NR_name_to_handle_at: Final[int] = 303
NR_open_by_handle_at: Final[int] = 304
NR_clock_adjtime: Final[int] = 305
NR_syncfs: Final[int] = 306
NR_sendmmsg: Final[int] = 307
NR_setns: Final[int] = 308
NR_getcpu: Final[int] = 309
NR_process_vm_readv: Final[int] = 310
NR_process_vm_writev: Final[int] = 311
NR_kcmp: Final[int] = 312
NR_finit_module: Final[int] = 313
NR_sched_setattr: Final[int] = 314
NR_sched_getattr: Final[int] = 315
NR_renameat2: Final[int] = 316
NR_seccomp: Final[int] = 317
NR_getrandom: Final[int] = 318
NR_memfd_create: Final[int] = 319
NR_kexec_file_load: Final[int] = 320
NR_bpf: Final[int] = 321
NR_execveat: Final[int] = 322
NR_userfaultfd: Final[int] = 323
NR_membarrier: Final[int] = 324
NR_mlock2: Final[int] = 325
NR_copy_file_range: Final[int] = 326
NR_preadv2: Final[int] = 327
NR_pwritev2: Final[int] = 328
NR_pkey_mprotect: Final[int] = 329
NR_pkey_alloc: Final[int] = 330
NR_pkey_free: Final[int] = 331
NR_statx: Final[int] = 332
NR_io_pgetevents: Final[int] = 333
NR_rseq: Final[int] = 334
NR_uretprobe: Final[int] = 335
NR_uprobe: Final[int] = 336
NR_pidfd_send_signal: Final[int] = 424
NR_io_uring_setup: Final[int] = 425
NR_io_uring_enter: Final[int] = 426
NR_io_uring_register: Final[int] = 427
NR_open_tree: Final[int] = 428
NR_move_mount: Final[int] = 429
NR_fsopen: Final[int] = 430
NR_fsconfig: Final[int] = 431
NR_fsmount: Final[int] = 432
NR_fspick: Final[int] = 433
NR_pidfd_open: Final[int] = 434
NR_clone3: Final[int] = 435
NR_close_range: Final[int] = 436
NR_openat2: Final[int] = 437
NR_pidfd_getfd: Final[int] = 438
NR_faccessat2: Final[int] = 439
NR_process_madvise: Final[int] = 440
NR_epoll_pwait2: Final[int] = 441
NR_mount_setattr: Final[int] = 442
NR_quotactl_fd: Final[int] = 443
NR_landlock_create_ruleset: Final[int] = 444
NR_landlock_add_rule: Final[int] = 445
NR_landlock_restrict_self: Final[int] = 446
NR_memfd_secret: Final[int] = 447
NR_process_mrelease: Final[int] = 448
NR_futex_waitv: Final[int] = 449
NR_set_mempolicy_home_node: Final[int] = 450
NR_cachestat: Final[int] = 451
NR_fchmodat2: Final[int] = 452
NR_map_shadow_stack: Final[int] = 453
NR_futex_wake: Final[int] = 454
NR_futex_wait: Final[int] = 455
NR_futex_requeue: Final[int] = 456
NR_statmount: Final[int] = 457
NR_listmount: Final[int] = 458
NR_lsm_get_self_attr: Final[int] = 459
NR_lsm_set_self_attr: Final[int] = 460
NR_lsm_list_modules: Final[int] = 461
NR_mseal: Final[int] = 462
NR_setxattrat: Final[int] = 463
NR_getxattrat: Final[int] = 464
NR_listxattrat: Final[int] = 465
NR_removexattrat: Final[int] = 466
NR_open_tree_attr: Final[int] = 467
NR_file_getattr: Final[int] = 468
NR_file_setattr: Final[int] = 469

NAMES: Final[dict[int, str]] = {
    0: "read",
    1: "write",
    2: "open",
    3: "close",
    4: "stat",
    5: "fstat",
    6: "lstat",
    7: "poll",
    8: "lseek",
    9: "mmap",
    10: "mprotect",
    11: "munmap",
    12: "brk",
    13: "rt_sigaction",
    14: "rt_sigprocmask",
    15: "rt_sigreturn",
    16: "ioctl",
    17: "pread64",
    18: "pwrite64",
    19: "readv",
    20: "writev",
    21: "access",
    22: "pipe",
    23: "select",
    24: "sched_yield",
    25: "mremap",
    26: "msync",
    27: "mincore",
    28: "madvise",
    29: "shmget",
    30: "shmat",
    31: "shmctl",
    32: "dup",
    33: "dup2",
    34: "pause",
    35: "nanosleep",
    36: "getitimer",
    37: "alarm",
    38: "setitimer",
    39: "getpid",
    40: "sendfile",
    41: "socket",
    42: "connect",
    43: "accept",
    44: "sendto",
    45: "recvfrom",
    46: "sendmsg",
    47: "recvmsg",
    48: "shutdown",
    49: "bind",
    50: "listen",
    51: "getsockname",
    52: "getpeername",
    53: "socketpair",
    54: "setsockopt",
    55: "getsockopt",
    56: "clone",
    57: "fork",
    58: "vfork",
    59: "execve",
    60: "exit",
    61: "wait4",
    62: "kill",
    63: "uname",
    64: "semget",
    65: "semop",
    66: "semctl",
    67: "shmdt",
    68: "msgget",
    69: "msgsnd",
    70: "msgrcv",
    71: "msgctl",
    72: "fcntl",
    73: "flock",
    74: "fsync",
    75: "fdatasync",
    76: "truncate",
    77: "ftruncate",
    78: "getdents",
    79: "getcwd",
    80: "chdir",
    81: "fchdir",
    82: "rename",
    83: "mkdir",
    84: "rmdir",
    85: "creat",
    86: "link",
    87: "unlink",
    88: "symlink",
    89: "readlink",
    90: "chmod",
    91: "fchmod",
    92: "chown",
    93: "fchown",
    94: "lchown",
    95: "umask",
    96: "gettimeofday",
    97: "getrlimit",
    98: "getrusage",
    99: "sysinfo",
    100: "times",
    101: "ptrace",
    102: "getuid",
    103: "syslog",
    104: "getgid",
    105: "setuid",
    106: "setgid",
    107: "geteuid",
    108: "getegid",
    109: "setpgid",
    110: "getppid",
    111: "getpgrp",
    112: "setsid",
    113: "setreuid",
    114: "setregid",
    115: "getgroups",
    116: "setgroups",
    117: "setresuid",
    118: "getresuid",
    119: "setresgid",
    120: "getresgid",
    121: "getpgid",
    122: "setfsuid",
    123: "setfsgid",
    124: "getsid",
    125: "capget",
    126: "capset",
    127: "rt_sigpending",
    128: "rt_sigtimedwait",
    129: "rt_sigqueueinfo",
    130: "rt_sigsuspend",
    131: "sigaltstack",
    132: "utime",
    133: "mknod",
    134: "uselib",
    135: "personality",
    136: "ustat",
    137: "statfs",
    138: "fstatfs",
    139: "sysfs",
    140: "getpriority",
    141: "setpriority",
    142: "sched_setparam",
    143: "sched_getparam",
    144: "sched_setscheduler",
    145: "sched_getscheduler",
    146: "sched_get_priority_max",
    147: "sched_get_priority_min",
    148: "sched_rr_get_interval",
    149: "mlock",
    150: "munlock",
    151: "mlockall",
    152: "munlockall",
    153: "vhangup",
    154: "modify_ldt",
    155: "pivot_root",
    156: "_sysctl",
    157: "prctl",
    158: "arch_prctl",
    159: "adjtimex",
    160: "setrlimit",
    161: "chroot",
    162: "sync",
    163: "acct",
    164: "settimeofday",
    165: "mount",
    166: "umount2",
    167: "swapon",
    168: "swapoff",
    169: "reboot",
    170: "sethostname",
    171: "setdomainname",
    172: "iopl",
    173: "ioperm",
    174: "create_module",
    175: "init_module",
    176: "delete_module",
    177: "get_kernel_syms",
    178: "query_module",
    179: "quotactl",
    180: "nfsservctl",
    181: "getpmsg",
    182: "putpmsg",
    183: "afs_syscall",
    184: "tuxcall",
    185: "security",
    186: "gettid",
    187: "readahead",
    188: "setxattr",
    189: "lsetxattr",
    190: "fsetxattr",
    191: "getxattr",
    192: "lgetxattr",
    193: "fgetxattr",
    194: "listxattr",
    195: "llistxattr",
    196: "flistxattr",
    197: "removexattr",
    198: "lremovexattr",
    199: "fremovexattr",
    200: "tkill",
    201: "time",
    202: "futex",
    203: "sched_setaffinity",
    204: "sched_getaffinity",
    205: "set_thread_area",
    206: "io_setup",
    207: "io_destroy",
    208: "io_getevents",
    209: "io_submit",
    210: "io_cancel",
    211: "get_thread_area",
    212: "lookup_dcookie",
    213: "epoll_create",
    214: "epoll_ctl_old",
    215: "epoll_wait_old",
    216: "remap_file_pages",
    217: "getdents64",
    218: "set_tid_address",
    219: "restart_syscall",
    220: "semtimedop",
    221: "fadvise64",
    222: "timer_create",
    223: "timer_settime",
    224: "timer_gettime",
    225: "timer_getoverrun",
    226: "timer_delete",
    227: "clock_settime",
    228: "clock_gettime",
    229: "clock_getres",
    230: "clock_nanosleep",
    231: "exit_group",
    232: "epoll_wait",
    233: "epoll_ctl",
    234: "tgkill",
    235: "utimes",
    236: "vserver",
    237: "mbind",
    238: "set_mempolicy",
    239: "get_mempolicy",
    240: "mq_open",
    241: "mq_unlink",
    242: "mq_timedsend",
    243: "mq_timedreceive",
    244: "mq_notify",
    245: "mq_getsetattr",
    246: "kexec_load",
    247: "waitid",
    248: "add_key",
    249: "request_key",
    250: "keyctl",
    251: "ioprio_set",
    252: "ioprio_get",
    253: "inotify_init",
    254: "inotify_add_watch",
    255: "inotify_rm_watch",
    256: "migrate_pages",
    257: "openat",
    258: "mkdirat",
    259: "mknodat",
    260: "fchownat",
    261: "futimesat",
    262: "newfstatat",
    263: "unlinkat",
    264: "renameat",
    265: "linkat",
    266: "symlinkat",
    267: "readlinkat",
    268: "fchmodat",
    269: "faccessat",
    270: "pselect6",
    271: "ppoll",
    272: "unshare",
    273: "set_robust_list",
    274: "get_robust_list",
    275: "splice",
    276: "tee",
    277: "sync_file_range",
    278: "vmsplice",
    279: "move_pages",
    280: "utimensat",
    281: "epoll_pwait",
    282: "signalfd",
    283: "timerfd_create",
    284: "eventfd",
    285: "fallocate",
    286: "timerfd_settime",
    287: "timerfd_gettime",
    288: "accept4",
    289: "signalfd4",
    290: "eventfd2",
    291: "epoll_create1",
    292: "dup3",
    293: "pipe2",
    294: "inotify_init1",
    295: "preadv",
    296: "pwritev",
    297: "rt_tgsigqueueinfo",
    298: "perf_event_open",
    299: "recvmmsg",
    300: "fanotify_init",
    301: "fanotify_mark",
    302: "prlimit64",
    303: "name_to_handle_at",
    304: "open_by_handle_at",
    305: "clock_adjtime",
    306: "syncfs",
    307: "sendmmsg",
    308: "setns",
    309: "getcpu",
    310: "process_vm_readv",
    311: "process_vm_writev",
    312: "kcmp",
    313: "finit_module",
    314: "sched_setattr",
    315: "sched_getattr",
    316: "renameat2",
    317: "seccomp",
    318: "getrandom",
    319: "memfd_create",
    320: "kexec_file_load",
    321: "bpf",
    322: "execveat",
    323: "userfaultfd",
    324: "membarrier",
    325: "mlock2",
    326: "copy_file_range",
    327: "preadv2",
    328: "pwritev2",
    329: "pkey_mprotect",
    330: "pkey_alloc",
    331: "pkey_free",
    332: "statx",
    333: "io_pgetevents",
    334: "rseq",
    335: "uretprobe",
    336: "uprobe",
    424: "pidfd_send_signal",
    425: "io_uring_setup",
    426: "io_uring_enter",
    427: "io_uring_register",
    428: "open_tree",
    429: "move_mount",
    430: "fsopen",
    431: "fsconfig",
    432: "fsmount",
    433: "fspick",
    434: "pidfd_open",
    435: "clone3",
    436: "close_range",
    437: "openat2",
    438: "pidfd_getfd",
    439: "faccessat2",
    440: "process_madvise",
    441: "epoll_pwait2",
    442: "mount_setattr",
    443: "quotactl_fd",
    444: "landlock_create_ruleset",
    445: "landlock_add_rule",
    446: "landlock_restrict_self",
    447: "memfd_secret",
    448: "process_mrelease",
    449: "futex_waitv",
    450: "set_mempolicy_home_node",
    451: "cachestat",
    452: "fchmodat2",
    453: "map_shadow_stack",
    454: "futex_wake",
    455: "futex_wait",
    456: "futex_requeue",
    457: "statmount",
    458: "listmount",
    459: "lsm_get_self_attr",
    460: "lsm_set_self_attr",
    461: "lsm_list_modules",
    462: "mseal",
    463: "setxattrat",
    464: "getxattrat",
    465: "listxattrat",
    466: "removexattrat",
    467: "open_tree_attr",
    468: "file_getattr",
    469: "file_setattr",
}

NUMBERS: Final[dict[str, int]] = {name: number for number, name in NAMES.items()}

#: One past the highest number.
NR_SYSCALLS: Final[int] = 470


def name_of(number: int) -> str:
    """The name of system call `number`, or "syscall_<number>" for one that does not exist."""
    return NAMES.get(number, f"syscall_{number}")

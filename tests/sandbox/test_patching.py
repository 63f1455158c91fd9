"""Call sites of programs whose threads never rest are patched all the same, and nobody notices."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]

PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

extern unsigned char known_site[], any_site[];
long known(long fd, long at), any(long nr, long fd, long at);
/* lseek(fd, at, SEEK_SET): with its number in the code, and in a register with a compare behind. */
__asm__(".text\n"
        "known: xor %edx, %edx\nknown_site: mov $8, %eax\nsyscall\nret\n"
        "any: mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nxor %edx, %edx\n"
        "any_site: syscall\ncmp $-4095, %rax\njae 1f\n1: ret\n");

static atomic_int done;
static atomic_long wrong, calls;

static void *caller(void *which) {
    int fd = open("/dev/zero", O_RDONLY), own = memfd_create("own", 0);
    for (long k = 0; !done; k++, calls++) {
        long got = which ? any(8, own, k) : known(own, k);
        if (got != k) wrong++;
        if (k % 16 == 0 && read(fd, &got, 8) != 8) wrong++; /* what the stub answers by itself */
    }
    close(fd);
    return 0;
}

/* Makes no call, and knows what comes out. */
static void *computer(void *none) {
    unsigned long first = 0;
    double first_sum = 0;
    while (!done) {
        unsigned long x = 1;
        double sum = 0;
        for (int k = 0; k < 20000; k++) x = x * 6364136223846793005ul + 1442695040888963407ul, sum += (double)x;
        if (!first) first = x, first_sum = sum;
        if (x != first || sum != first_sum) wrong++;
    }
    return 0;
}

static void *sleeper(void *none) {
    while (!done) nanosleep(&(struct timespec){0, 100000}, 0);
    return 0;
}

static atomic_long handled;
static void handler(int signo) { handled++; }

int main(void) {
    pthread_t threads[6];
    void *(*roles[6])(void *) = {caller, caller, computer, computer, sleeper, caller};
    signal(SIGUSR1, handler);
    for (long k = 0; k < 6; k++) pthread_create(&threads[k], 0, roles[k], (void *)(k % 2));
    for (int k = 0; k < 12000 && !(known_site[0] == 0xe9 && any_site[0] == 0xe9); k++) {
        pthread_kill(threads[k % 5], SIGUSR1);
        nanosleep(&(struct timespec){0, 10000000}, 0);
    }
    printf("%s %s\n", known_site[0] == 0xe9 ? "patched" : "not", any_site[0] == 0xe9 ? "patched" : "not");
    long before = calls;
    while (calls < before + 2000) nanosleep(&(struct timespec){0, 1000000}, 0);
    done = 1;
    for (int k = 0; k < 6; k++) pthread_join(threads[k], 0);
    printf("%ld wrong\n", (long)wrong);
}
"""


def test_sites_of_threads_that_never_rest(host: Any, tmp_path: Path) -> None:
    source, program = tmp_path / "busy.c", tmp_path / "busy"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-O1", "-w", "-pthread", "-o", str(program), str(source)], check=True)
    process = host.start("do", "--", str(program))
    process.wait(200)
    assert host.end(process).out == "patched patched\n0 wrong\n"

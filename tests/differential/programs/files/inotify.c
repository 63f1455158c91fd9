// inotify: events of creation, writing, renaming with one cookie, removal; errors.
#include "../check.h"
#include <sys/inotify.h>

static void drain(int fd) {
    char data[4096] __attribute__((aligned(8)));
    ssize_t n = read(fd, data, sizeof data);
    if (n == -1) {
        printf("nothing: %s\n", error_name(errno));
        return;
    }
    uint32_t cookie = 0;
    for (char *p = data; p < data + n;) {
        struct inotify_event *e = (void *)p;
        printf("  %08x %s%s\n", e->mask, e->len ? e->name : "-", e->cookie ? (e->cookie == cookie ? " same cookie" : " cookie") : "");
        if (e->cookie) cookie = e->cookie;
        p += sizeof *e + e->len;
    }
}

int main(void) {
    NEED(mkdir("d", 0755));
    int fd = NEED(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), wd;
    SAY(wd = inotify_add_watch(fd, "d", IN_ALL_EVENTS));
    drain(fd);
    int f = NEED(open("d/f", O_CREAT | O_WRONLY, 0600));
    NEED(write(f, "x", 1));
    close(f);
    drain(fd);
    NEED(rename("d/f", "d/g"));
    drain(fd);
    NEED(chmod("d/g", 0644));
    NEED(mkdir("d/sub", 0700));
    NEED(rmdir("d/sub"));
    NEED(unlink("d/g"));
    drain(fd);
    SAY(inotify_add_watch(fd, "none", IN_CREATE));
    SAY(inotify_add_watch(fd, "d", 0));
    SAY(inotify_add_watch(99, "d", IN_CREATE));
    SAY(inotify_add_watch(fd, "d", IN_CREATE));
    SAY(inotify_rm_watch(fd, wd));
    drain(fd);
    SAY(inotify_rm_watch(fd, wd));
    SAY(inotify_rm_watch(fd, 99));
    return 0;
}

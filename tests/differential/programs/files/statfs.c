// statfs(2), statvfs(3), and pathconf(3): plausibility and errors.
#include "../check.h"
#include <sys/statvfs.h>
#include <sys/vfs.h>

int main(void) {
    struct statfs fs, proc;
    SAY(statfs(".", &fs));
    IS(fs.f_bsize >= 512 && fs.f_blocks >= fs.f_bfree && fs.f_namelen == 255);
    SAY(statfs("/proc", &proc));
    printf("proc type %lx namelen %ld\n", (long)proc.f_type, (long)proc.f_namelen);
    SAY(statfs("none", &fs));
    int fd = NEED(open(".", O_RDONLY));
    SAY(fstatfs(fd, &fs));
    SAY(fstatfs(99, &fs));
    SAY(statfs(".", (void *)8));
    int p[2];
    NEED(pipe(p));
    SAY(fstatfs(p[0], &fs));
    printf("pipe type %lx\n", (long)fs.f_type);
    SAY(pathconf(".", _PC_NAME_MAX));
    SAY(pathconf(".", _PC_PIPE_BUF));
    return 0;
}

// Permission bits as an ordinary user: owner, group, others, directories, sticky, access(2) against open(2).
#include "../check.h"
#include <grp.h>

int main(void) {
    NEED(chmod(".", 0777));
    put_file("secret", "x");
    NEED(chmod("secret", 0600));
    put_file("group", "x");
    NEED(chown("group", 0, 2000));
    NEED(chmod("group", 0640));
    put_file("world", "x");
    NEED(chmod("world", 0644));
    NEED(mkdir("closed", 0700));
    put_file("closed/f", "x");
    NEED(mkdir("noread", 0711));
    put_file("noread/f", "x");
    NEED(mkdir("sticky", 01777));
    NEED(chmod("sticky", 01777));
    put_file("sticky/roots", "x");
    put_file("script", "#!/bin/sh\n");
    NEED(chmod("script", 0644));
    gid_t groups[] = {2000};
    NEED(setgroups(1, groups));
    NEED(setresgid(1000, 1000, 1000));
    NEED(setresuid(1000, 1000, 1000));
    OK(open("secret", O_RDONLY));
    OK(open("secret", O_WRONLY));
    OK(open("group", O_RDONLY));
    OK(open("group", O_RDWR));
    OK(open("world", O_RDONLY));
    OK(open("world", O_WRONLY));
    OK(open("closed/f", O_RDONLY));
    OK(open("closed", O_RDONLY));
    OK(open("noread", O_RDONLY));
    OK(open("noread/f", O_RDONLY));
    OK(open("noread/new", O_WRONLY | O_CREAT, 0600));
    SAY(access("secret", R_OK));
    SAY(access("secret", F_OK));
    SAY(access("world", R_OK | W_OK));
    SAY(access("script", X_OK));
    SAY(access("closed/f", F_OK));
    SAY(access("world", 8));
    OK(open("mine", O_WRONLY | O_CREAT, 0000));
    OK(open("mine", O_RDONLY));
    SAY(chmod("mine", 0600));
    OK(open("mine", O_RDONLY));
    SAY(chmod("world", 0666));
    SAY(chown("mine", 0, 0));
    SAY(chown("mine", 1000, 2000));
    SAY(chown("mine", 1000, 3000));
    SAY(unlink("sticky/roots"));
    SAY(rename("sticky/roots", "sticky/other"));
    OK(open("sticky/mine", O_CREAT | O_WRONLY, 0600));
    SAY(unlink("sticky/mine"));
    SAY(unlink("world"));
    SAY(truncate("group", 0));
    SAY(mknod("dev", S_IFCHR | 0600, 0x103));
    SAY(link("secret", "alias"));
    return 0;
}

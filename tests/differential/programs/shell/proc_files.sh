# What scripts read from /proc and /sys, as relations.
[ -r /proc/cpuinfo ] && grep -q '^processor' /proc/cpuinfo && echo cpuinfo
awk '/^MemTotal:/ { t = $2 } /^MemFree:/ { f = $2 } END { print (t > f && f > 0) ? "memory" : "bad" }' /proc/meminfo
[ "$(cat /proc/sys/kernel/ostype)" = Linux ] && echo ostype
grep -q proc /proc/filesystems && echo filesystems
read -r up idle < /proc/uptime && [ "${up%.*}" -ge 0 ] && echo uptime
awk '{ print NF }' /proc/loadavg
grep -q ' / ' /proc/self/mounts && echo root mounted
[ "$(cat /proc/$$/comm)" = sh ] && echo comm
tr '\0' ' ' < /proc/self/cmdline
echo
ls /proc/self/fd | wc -l | awk '{ print $1 >= 4 }'
[ "$(readlink /proc/$$/cwd)" = "$PWD" ] && echo cwd
grep -q '^btime' /proc/stat && echo stat
wc -l < /proc/sys/kernel/random/boot_id
cat /proc/sys/kernel/pid_max | awk '{ print $1 >= 32768 }'
[ -d /sys ] && echo sys
grep -c . /proc/self/limits | awk '{ print $1 == 17 }'
nproc | awk '{ print $1 >= 1 }'

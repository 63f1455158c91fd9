# The static multi-call binary: its own shell and tools.
busybox=$(command -v busybox) || { echo none; exit 0; }
$busybox sh -c 'echo hello from ash; for i in 1 2 3; do echo $i; done | busybox sort -r'
$busybox echo static | $busybox tr a-z A-Z
$busybox seq 1 5 | $busybox awk '{ s += $1 } END { print s }'
$busybox mkdir -p a/b
$busybox touch a/b/c
$busybox find a | $busybox sort
$busybox ls -1 a
$busybox sh -c 'exit 6'
echo $?
$busybox printf '%s\n' x | $busybox md5sum

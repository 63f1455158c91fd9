# stderr
# dd, /dev/zero, /dev/full, /dev/null, truncate, mknod.
dd if=/dev/zero of=z bs=1000 count=7 2> /dev/null
wc -c < z
dd if=z of=part bs=1 skip=10 count=5 2> /dev/null
od -An -c part
echo overwrite | dd of=z bs=1 seek=3 conv=notrunc 2> /dev/null
wc -c < z
head -c 12 z | od -An -c
truncate -s 3 z
wc -c < z
truncate -s 1M z
wc -c < z
echo x > /dev/full
echo "full $?"
cat /dev/null | wc -c
head -c 1000 /dev/urandom | wc -c
mkfifo p
echo through fifo > p &
cat p
wait
cat /proc/self/comm

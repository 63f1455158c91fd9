# Arithmetic, test operators on files, string comparison.
echo $((7 / 2)) $((7 % 3)) $((1 << 10)) $((-7 / 2)) $((0x1f)) $((010))
i=0
while [ $i -lt 5 ]; do i=$((i + 1)); done
echo $i
touch file
mkdir dir
ln -s file link
ln -s nowhere dangling
mkfifo fifo
for f in file dir link dangling fifo none /dev/null; do
    for t in e f d L p c s r w x; do
        [ -$t $f ] && printf '%s ' "$t"
    done
    echo ": $f"
done
echo text > file
[ -s file ] && echo nonempty
chmod 755 file
[ -x file ] && echo executable
[ file -ef link ] && echo same
sleep 0.05
touch newer
[ newer -nt file ] && echo newer
[ abc = abc ] && [ abc != abd ] && [ -z "" ] && [ -n x ] && echo strings

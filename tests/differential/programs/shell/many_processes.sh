# A hundred small commands in a row, and statuses of each.
i=0
good=0
while [ $i -lt 100 ]; do
    if /bin/true; then good=$((good + 1)); fi
    i=$((i + 1))
done
echo $good
i=0
bad=0
while [ $i -lt 50 ]; do
    /bin/false || bad=$((bad + 1))
    i=$((i + 1))
done
echo $bad
for i in 1 2 3; do sh -c "sh -c \"sh -c 'exit $i'\""; echo $?; done

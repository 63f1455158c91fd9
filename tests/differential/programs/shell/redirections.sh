# stderr
# Redirections: append, clobber, duplicates, closing, read-write, to descriptors.
echo first > f
echo second >> f
cat < f
cat f nothere > out 2>&1
sed 's/cat: //' out
set -C
echo third > f
echo "noclobber $?"
set +C
echo forced >| f
cat f
exec 3> g
echo to three >&3
echo also >&3
exec 3>&-
cat g
echo lost 2>/dev/null >&9
echo "bad descriptor $?"
exec 4<> h
echo rw >&4
cat h
exec 4>&-
{ echo out; echo err >&2; } 2>&1 >/dev/null
: > empty
wc -c < empty
cat <&- 2>/dev/null
echo "closed stdin $?"
ls /nonexistent 2>&1 | wc -l

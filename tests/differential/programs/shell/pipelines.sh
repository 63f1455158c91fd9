# stderr
# Pipelines, their status, groups and subshells.
echo one two three | tr ' ' '\n' | sort -r | head -n 2
false | true
echo "status $?"
true | false
echo "status $?"
(echo in; exit 3)
echo "subshell $?"
{ echo a; echo b; } | while read -r line; do echo "got $line"; done
seq 1 1000 | awk '{ s += $1 } END { print s }'
yes | head -n 3
echo x | cat - /dev/null | cat
! true
echo "negated $?"
seq 1 20000 | wc -c
seq 1 100000 | tail -n 1
printf 'a\0b\0' | tr '\0' '\n'

# Command substitution, nesting, big outputs, exit status, trailing newlines.
x=$(echo a; echo b; echo)
echo "[$x]"
echo "$(echo "$(echo "$(echo deep)")")"
y=$(exit 5)
echo $?
z=$(seq 1 20000)
echo "${#z}"
echo `echo back\`echo tick\``
set -- $(echo three small words)
echo $#
n=$(cat /etc/passwd | wc -l)
[ "$n" -gt 0 ] && echo some users
w=$(cat < /dev/null)
echo "[$w]"
v=$( (sleep 0.1; echo late) & wait )
echo "$v"

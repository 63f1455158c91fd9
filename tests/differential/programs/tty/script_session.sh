# timeout=60
# An interactive shell under script(1): prompts, job control and line editing through a terminal.
command -v script > /dev/null || { echo none; exit 0; }
export PS1='> ' TERM=dumb
printf 'echo one\nsleep 0.1 &\nwait\ntty | sed s,[0-9]*$,N,\nstty -a | grep -c icanon\nexit 3\n' > input
script -qec 'sh' typescript < input > output 2>&1
echo "status $?"
tr -d '\r' < output | grep -q one && echo saw one
grep -c '/dev/pts/N' output
script -qec 'exit 7' /dev/null < /dev/null > /dev/null
echo "status $?"
script -qec 'test -t 0 && test -t 1 && echo terminal' /dev/null < /dev/null | tr -d '\r'

# stderr
# Traps: EXIT, signals, ignored in children, reset in subshells.
trap 'echo exit trap' EXIT
trap 'echo usr1' USR1
kill -USR1 $$
echo after
(trap 'echo sub exit' EXIT; echo in subshell)
trap '' TERM
sh -c 'kill -TERM $$; echo child ignored TERM too'
trap - TERM
sh -c 'kill -TERM $$; echo not reached'
echo "status $?"
sh -c 'trap "echo cleanup; exit 7" TERM; kill -TERM $$; sleep 1; echo no'
echo "status $?"
trap 'echo caught int' INT
kill -INT $$
sh -c 'trap "echo bye" 0; exit 5'
echo "status $?"
exit 4

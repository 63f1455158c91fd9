# timeout(1), sleep, nice, nohup, setsid, env: small utilities around processes.
timeout 0.2 sleep 5
echo "timeout $?"
timeout 5 true
echo "in time $?"
timeout -s KILL 0.2 sleep 5
echo "killed $?"
timeout 5 sh -c 'exit 9'
echo "passes $?"
nice -n 5 nice
nohup echo through 2> /dev/null
setsid sh -c 'echo new session' | cat
sh -c 'exec echo replaced'
stdbuf -oL echo buffered
xargs -P 4 -n 1 sh -c 'exit 0' < /dev/null
echo $?
seq 8 | xargs -P 4 -n 1 sh -c 'echo $0' | sort

# ps, pgrep and kill by name see the processes of this system.
sleep 77 &
pid=$!
ps -o comm= -p $pid
ps -o stat= -p $pid | cut -c1
ps -o ppid= -p $pid | awk -v p=$$ '{ print $1 == p }'
ps -ef | grep -c '[s]leep 77'
kill -STOP $pid
sleep 0.1
ps -o stat= -p $pid | cut -c1
kill -KILL $pid
wait $pid 2> /dev/null
ps -p $pid > /dev/null
echo "gone $?"
ps -o args= -p $$ | awk '{ print $1 }'

# Background jobs, wait by pid, statuses, signals to jobs.
(sleep 0.2; exit 3) &
one=$!
(sleep 0.1; exit 4) &
two=$!
wait $one
echo "one $?"
wait $two
echo "two $?"
sleep 100 &
kill $!
wait $!
echo "killed $?"
sleep 100 &
kill -9 $!
wait $! 2>/dev/null
echo "killed $?"
wait 999999
echo "no such $?"
for i in 1 2 3 4 5; do (echo "job $i" > "job.$i") & done
wait
cat job.1 job.2 job.3 job.4 job.5
(while :; do sleep 0.05; done) &
pid=$!
kill -STOP $pid
kill -CONT $pid
kill -TERM $pid
wait $pid
echo "loop $?"

# stderr
# The whole program ends by a signal: its status is 128 plus the number.
echo before
sh -c 'kill -TERM $$'
echo "inner status $?"
sh -c 'kill -KILL $$'
echo "inner status $?"
(exit 42)
echo "subshell $?"
exit 17

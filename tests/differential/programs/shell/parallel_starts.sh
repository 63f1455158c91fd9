# Programs that start while others end: each finds its libraries.
seq 200 | xargs -P 4 -n 1 sh -c 'echo $0' | sort -n | tail -n 2
seq 200 | xargs -P 4 -n 1 sh -c 'echo $0' | wc -l

# sort, uniq, cut, paste, join, tr, sed, awk, grep, comm, head, tail, wc, od, rev-like loops.
printf 'pear 3\napple 10\nfig 2\napple 1\n' > data
sort data
sort -k2 -n data
sort -u -k1,1 data
cut -d' ' -f1 data | sort | uniq -c | awk '{ print $2, $1 }'
sed -n '2,3p' data
sed -e 's/apple/APPLE/' -e '/fig/d' data
awk '{ sum[$1] += $2 } END { for (k in sum) print k, sum[k] }' data | sort
grep -c apple data
grep -v apple data
grep -n 'g' data
grep -E '^(fig|pear)' data
grep missing data
echo "grep status $?"
printf '1\n2\n3\n' > l
printf '2\n3\n4\n' > r
comm l r
comm -12 l r
join l r
paste l r
paste -sd, l
tr a-z A-Z < data
head -c 5 data
echo
tail -n +3 data
wc data
od -An -tx1 l
seq 10 | xargs -n 3 echo
seq 3 | xargs -I{} echo item {}
echo 'a,b;c' | tr ',;' '\n\n'
expr 3 + 4
expr abcdef : 'abc\(.*\)'
printf '%05d|%-6s|%x|%s\n' 42 ab 255 end
fold -w 10 <<END
a line that is longer than ten
END
nl -ba l
tac l

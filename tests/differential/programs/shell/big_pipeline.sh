# A megabyte through a chain of filters; checksums agree.
seq 1 150000 > numbers
wc -c < numbers
cat numbers | cat | cat | cat | sha1sum
sort -R numbers | sort -n | cmp - numbers && echo sorted
split -b 100000 numbers piece.
ls piece.* | wc -l
cat piece.* | cmp - numbers && echo joined
grep -c 7 numbers
awk 'NR % 1000 == 0' numbers | tail -n 1
tac numbers | head -n 1
sed -n '$p' numbers
cut -c1 numbers | sort | uniq -c | awk '{print $2":"$1}' | paste -sd' '
gzip -c numbers | gunzip -c | tail -c 7

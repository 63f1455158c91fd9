# sed -i, mv, cp -p, ln, install, and what they leave.
umask 022
printf 'alpha\nbeta\n' > f
chmod 640 f
sed -i 's/beta/BETA/' f
cat f
stat -c '%a %s %F' f
cp -p f g
stat -c '%a %s' g
touch -d '2001-02-03 04:05:06 UTC' g
stat -c '%Y' g
cp -p g h
stat -c '%Y' h
mv h i
ls
ln g hard
stat -c '%h' g
ln -s g soft
readlink soft
rm g
cat soft 2> /dev/null
echo $?
cat hard
install -m 700 -d newdir
stat -c '%a %F' newdir
install -m 644 f newdir/copy
stat -c '%a' newdir/copy
cmp f newdir/copy && echo equal

# tar, gzip, and their round trip with modes, links and empty directories.
mkdir -p src/sub/empty
echo one > src/one
seq 1 1000 > src/sub/numbers
chmod 751 src/sub
ln -s one src/link
ln src/one src/hard
tar -cf a.tar src
tar -tf a.tar | sort
mkdir out
tar -xpf a.tar -C out
(cd out && find . | sort)
stat -c '%a %F' out/src/sub out/src/link
[ out/src/one -ef out/src/hard ] && echo hard link kept
diff -r src out/src && echo equal
tar -czf a.tgz src
gzip -t a.tgz && echo gzip good
zcat a.tgz | cmp - a.tar || echo differs
gzip -9 < src/sub/numbers | gunzip | cmp - src/sub/numbers && echo same
tar -xzf a.tgz -O src/one
sha256sum src/sub/numbers
md5sum src/one | cut -d' ' -f1

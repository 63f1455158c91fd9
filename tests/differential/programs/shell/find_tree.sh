# find: by name, type, depth, size, permission, -exec, -delete, -newer, prune.
mkdir -p t/a/b/c t/d
for f in t/one t/a/two.txt t/a/b/three.txt t/a/b/c/four t/d/five.txt; do echo "$f" > $f; done
ln -s ../one t/a/link
chmod 600 t/one
find t | sort
find t -name '*.txt' | sort
find t -type d | sort
find t -maxdepth 1 | sort
find t -type l
find t -perm 600
find t -name b -prune -o -type f -print | sort
find t -type f -exec cat {} + | sort
find t -type f -size -1k | wc -l
find t -empty
find t -name '*.txt' -delete
find t -type f | sort
find t -depth -type d | tail -n 1
du -a t | wc -l
rm -rf t
ls

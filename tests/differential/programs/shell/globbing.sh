# Globs, hidden names, quoting, brace-free expansions, field splitting.
mkdir d
touch d/a1 d/a2 d/b1 d/.hidden 'd/with space' 'd/star*'
cd d || exit 1
echo *
echo a?
echo [ab]1
echo [!a]*
echo .h*
echo "*"
echo no*match
for f in *; do echo "[$f]"; done
set -- *
echo $#
IFS=:
v=a:b::c
for w in $v; do echo "<$w>"; done
unset IFS
p=/usr/local/lib/x.tar.gz
echo "${p##*/} ${p%.gz} ${p#*/} ${p%%.*} ${#p}"
echo "${undefined:-default} ${undefined:+set} ${p:+set}"
case abc in a*) echo starts with a ;; *) echo other ;; esac
cd ..
rm -r d
ls

# Here-documents, quoting, tabs, several at once.
name=world
cat <<END
hello $name $((6 * 7)) $(echo sub)
END
cat <<'END'
hello $name $((6 * 7))
END
cat <<-END
	tab removed
		two removed
END
cat <<ONE; cat <<TWO
one
ONE
two
TWO
while read -r a b; do echo "$b-$a"; done <<END
1 2
3 4
END
cat <<END | wc -l
$(seq 1 5000)
END

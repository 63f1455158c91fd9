# timeout=120 runs=2
# git: init, add, commit, branch, merge, diff, log, clone, gc, stash.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
git init -q -b main repo
cd repo || exit 1
echo one > file
mkdir dir
seq 1 100 > dir/numbers
git add .
git commit -q -m first
git log --format='%H %s'
echo two >> file
git status --short
git diff | tail -n 2
git commit -q -am second
git checkout -q -b side HEAD~1
echo side > other
git add other
git commit -q -m side
git checkout -q main
git merge -q --no-edit side
git log --format=%s | sort
git rev-parse 'HEAD^{tree}'
git ls-tree -r HEAD
echo dirty > file
git stash -q && cat file && git stash pop -q && cat file
git checkout -q file
git tag v1
git gc -q
git fsck 2>&1 | grep -v '^notice' | wc -l
cd ..
git clone -q repo copy && cd copy && git log --oneline | wc -l
git mv dir/numbers moved && git commit -q -m moved && git show --stat --format=%s | head -n 3
git archive HEAD | tar -t | sort

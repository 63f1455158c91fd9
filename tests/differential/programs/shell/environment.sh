# Environment: exports, assignments for one command, env -i, cd and PWD, unset.
A=1
B=2 sh -c 'echo "[$A] [$B]"'
export A
B=2 sh -c 'echo "[$A] [$B]"'
echo "[$B]"
env -i X=y sh -c 'echo "$X [$A]"'
env -u A sh -c 'echo "[$A]"'
mkdir -p one/two
cd one/two || exit 1
echo "${PWD##*/}"
cd ../..
cd - > /dev/null && echo "${PWD##*/}"
cd ../.. && ln -s one/two short
cd short && echo "${PWD##*/}"
cd -P . && echo "${PWD##*/}"
pwd -P | sed 's,.*/,,'
unset A
sh -c 'echo "[$A]"'
echo "$0" | sed 's,.*/,,'
echo $# "$@"
readonly R=5
(R=6) 2> /dev/null
echo "readonly $?"
echo "$LANG $TZ"
date -u -d @0 '+%Y-%m-%d %H:%M:%S'

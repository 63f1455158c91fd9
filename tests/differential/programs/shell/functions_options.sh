# stderr
# Functions, local variables, set -e, -u, getopts, shift, recursion, eval.
fact() { [ "$1" -le 1 ] && echo 1 || echo $(($1 * $(fact $(($1 - 1))))); }
fact 10
f() { local x=inner; echo $x; return 9; }
x=outer
f
echo "$? $x"
(set -e; false; echo not reached)
echo "set -e $?"
(set -u; echo "$undefined_thing") 2>/dev/null
echo "set -u $?"
set -- -a -b value rest more
while getopts ab: option; do echo "option $option $OPTARG"; done
shift $((OPTIND - 1))
echo "$*"
eval 'echo evaluated $((1+1))'
command -v sh > /dev/null && echo found
type definitely_not_there > /dev/null 2>&1 || echo not found
nonexistent_command_xyz 2> /dev/null
echo $?
./missing 2> /dev/null
echo $?
echo data > notexec
./notexec 2> /dev/null
echo $?

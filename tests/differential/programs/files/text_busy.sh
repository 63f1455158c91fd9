# ETXTBSY: running programs cannot be written, files that are written cannot be run.
cp /bin/sleep prog
./prog 5 &
running=$!
sleep 0.3
python3 -c '
import errno, os
def attempt(what, *args):
    try:
        what(*args)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
print("write", attempt(os.open, "prog", os.O_WRONLY))
print("read", attempt(os.open, "prog", os.O_RDONLY))
print("truncate", attempt(os.truncate, "prog", 0))
print("chmod", attempt(os.chmod, "prog", 0o755))
print("unlink", attempt(os.unlink, "prog"))
'
kill $running
wait $running 2> /dev/null
cp /bin/true prog
./prog
echo run $?
python3 -c '
import errno, os
fd = os.open("prog", os.O_RDWR)
try:
    os.execv("./prog", ["prog"])
except OSError as error:
    print("exec", errno.errorcode[error.errno])
os.close(fd)
print("flushed", flush=True)
os.execv("./prog", ["prog"])
'
echo closed $?

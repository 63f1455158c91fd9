# timeout=120 runs=2
# gcc compiles, links and the result runs: one file, several files, a shared library, an error.
cat > hello.c <<'END'
#include <stdio.h>
#include <math.h>
int main(int argc, char **argv) { printf("hello %d %.3f\n", argc, sqrt(2.0)); return argc; }
END
gcc -O2 -Wall -o hello hello.c -lm && ./hello a b
echo "status $?"
cat > lib.c <<'END'
int twice(int x) { return 2 * x; }
END
cat > main.c <<'END'
#include <stdio.h>
int twice(int);
int main(void) { printf("%d\n", twice(21)); return 0; }
END
gcc -c lib.c main.c && gcc -o prog lib.o main.o && ./prog
ar rcs libtwice.a lib.o && gcc -o prog2 main.c -L. -ltwice && ./prog2
gcc -shared -fPIC -o libtwice.so lib.c && gcc -o prog3 main.c ./libtwice.so && ./prog3
gcc -static -o prog4 main.c lib.c && ./prog4
echo 'int main( {' > bad.c
gcc -o bad bad.c 2> errors
echo "bad status $?"
grep -c 'error' errors
nm prog | grep -c ' T twice'
strip prog && ./prog
size -A hello | grep -c '\.text'

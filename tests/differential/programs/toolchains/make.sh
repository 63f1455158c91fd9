# timeout=120 runs=2
# make: dependencies, nothing to do, parallel jobs, errors, variables.
cat > Makefile <<'END'
OBJS = a.o b.o c.o
prog: $(OBJS)
	@echo link $(sort $^)
	@cat $(OBJS) > $@
%.o: %.src
	@cp $< $@
fail:
	@false
clean:
	@rm -f *.o prog
list:
	@for i in 1 2 3; do echo item $$i; done
END
for f in a b c; do echo $f > $f.src; done
make
cat prog
make
sleep 0.05
touch b.src
make
make -j4 clean list
make -j4
make fail > /dev/null 2>&1
echo "status $?"
make -n clean
make nothing > /dev/null 2>&1
echo "status $?"

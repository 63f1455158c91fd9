# ldd, readelf, objdump and file-reading tools on our own binaries.
ldd /bin/true | awk '{ print $1 }' | sed 's,.*/,,' | sort
readelf -h /bin/true | grep -E 'Class|Type|Machine'
readelf -l /bin/true | grep -c LOAD
readelf -d /bin/true | grep -c NEEDED
objdump -d /bin/true | grep -c ret | awk '{ print $1 > 0 }'
strings /bin/true | grep -c GLIBC | awk '{ print $1 > 0 }'
/lib64/ld-linux-x86-64.so.2 /bin/echo through the loader
LD_DEBUG=help /bin/true 2>&1 | grep -c libs | awk '{ print $1 > 0 }'
getconf PAGESIZE
getconf CLK_TCK
getconf PATH_MAX /

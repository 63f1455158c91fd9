// copy_file_range(2): offsets, overlap, append, directories, end of file.
#include "../check.h"

int main(void) {
    put_file("a", "0123456789");
    int a = NEED(open("a", O_RDWR)), b = NEED(open("b", O_RDWR | O_CREAT, 0600));
    SAY(copy_file_range(a, NULL, b, NULL, 4, 0));
    SAY(lseek(a, 0, SEEK_CUR));
    SAY(lseek(b, 0, SEEK_CUR));
    loff_t from = 8, to = 10;
    SAY(copy_file_range(a, &from, b, &to, 100, 0));
    printf("offsets %ld %ld\n", (long)from, (long)to);
    SAY(copy_file_range(a, &from, b, &to, 100, 0));
    from = 0, to = 5;
    SAY(copy_file_range(a, &from, a, &to, 5, 0));
    show_file("a");
    from = 0, to = 2;
    SAY(copy_file_range(a, &from, a, &to, 5, 0));
    SAY(copy_file_range(a, NULL, b, NULL, 4, 1));
    int ro = NEED(open("b", O_RDONLY)), dir = NEED(open(".", O_RDONLY)), app = NEED(open("b", O_WRONLY | O_APPEND));
    SAY(copy_file_range(a, NULL, ro, NULL, 1, 0));
    SAY(copy_file_range(dir, NULL, b, NULL, 1, 0));
    from = 0;
    SAY(copy_file_range(a, &from, app, NULL, 1, 0));
    int p[2];
    NEED(pipe(p));
    from = 0;
    SAY(copy_file_range(a, &from, p[1], NULL, 1, 0));
    struct stat st;
    NEED(stat("b", &st));
    printf("size %ld\n", (long)st.st_size);
    return 0;
}

/* Writes behind the end of a block and loses one: shows that sanitizers and valgrind are at work. */
#include "check.h"

int main(int argc, char **argv) {
    volatile char *block, *lost;
    begin(argc, argv);
    lost = (volatile char *)malloc(24);
    lost[0] = 1;
    lost = NULL;
    block = (volatile char *)malloc(8);
    block[8 + argc - 2] = 1;
    printf("went on%s\n", lost == NULL ? "" : "?");
    free((void *)block);
    return 0;
}

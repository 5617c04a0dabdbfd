/* Writes behind the end of a block: shows that AddressSanitizer is at work. */
#include "check.h"

int main(int argc, char **argv) {
    volatile char *block;
    begin(argc, argv);
    block = (volatile char *)malloc(8);
    block[8 + argc - 2] = 1;
    printf("went on\n");
    free((void *)block);
    return 0;
}

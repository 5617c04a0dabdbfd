/* The header alone. */
#include "f2d2.h"

int main(void) {
    return f2d2_version() == 0;
}

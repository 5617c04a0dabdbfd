// The same in C++.
#include "uses.c"

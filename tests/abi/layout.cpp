// The same in C++.
#include "layout.c"

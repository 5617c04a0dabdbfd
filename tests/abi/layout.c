/* Sizes and offsets of the structs, as layout.def says them; bindings/c checks the same list. */
#include "f2d2.h"

#if defined(__cplusplus)
#define ASSERT static_assert
#else
#define ASSERT _Static_assert
#endif

/* The list is that of machines with 64-bit pointers, whatever the width of long. */
#if UINTPTR_MAX > 0xffffffffu
#define SIZE(type, size) ASSERT(sizeof(type) == (size), #type);
#define FIELD(type, field, offset) ASSERT(offsetof(type, field) == (offset), #type "." #field);
#include "layout.def"
#endif

int main(void) {
    return 0;
}

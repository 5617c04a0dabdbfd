/* Two threads write one variable without a lock: shows that ThreadSanitizer is at work. */
#include <pthread.h>

#include "check.h"

static long shared;

static void *count(void *argument) {
    int i;
    for (i = 0; i < 1000; ++i)
        shared += 1;
    return argument;
}

int main(int argc, char **argv) {
    pthread_t thread;
    begin(argc, argv);
    CHECK(pthread_create(&thread, NULL, count, NULL) == 0);
    count(NULL);
    pthread_join(thread, NULL);
    printf("%ld\n", shared);
    return 0;
}

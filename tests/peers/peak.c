/* The peak of one core: independent multiply-adds of whole vectors, GFLOP/s. Compiled with -O3 -march=native, which keeps the
 * sums in registers. */
#include <stdio.h>
#include <time.h>

#if defined(__AVX512F__)
typedef float vector __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float vector __attribute__((vector_size(32)));
#else
typedef float vector __attribute__((vector_size(16)));
#endif
enum { SUMS = 12, ROUNDS = 1000000 };

int main(void) {
    vector sums[SUMS] = {{0}};
    double best = 0;
    float total = 0;
    for (int try = 0; try < 10; try++) {
        struct timespec start, end;
        vector a = {0}, b = {0};
        a += 1.0f + 1e-7f * (float)try, b += 1e-9f;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int i = 0; i < ROUNDS; i++) {
            /* Hidden from the compiler, which would move the products out of the loop. */
            __asm__ volatile("" : "+x"(a), "+x"(b));
            for (int j = 0; j < SUMS; j++) sums[j] = sums[j] * a + b;
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        double seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
        double rate = 2e-9 * SUMS * ROUNDS * (sizeof(vector) / sizeof(float)) / seconds;
        best = rate > best ? rate : best;
    }
    for (int j = 0; j < SUMS; j++) total += sums[j][0];
    printf("%.1f %zu\n", total < 1e30f ? best : 0, 8 * sizeof(vector));
    return 0;
}

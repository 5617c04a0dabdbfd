/* Many threads on one detector, two on one session, and destruction under way: cases 41, 48 and 49. */
#include <pthread.h>

#include "check.h"

#define THREADS 4
#define FRAMES 100

static f2d2_detector *detector;
static double expected[FRAMES];
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int inside, leave, stop;

/* CHECK counts without a lock: threads report through what they return. */
static void *score_all(void *argument) {
    f2d2_session *session = NULL;
    size_t wrong = 0, i;
    (void)argument;
    if (f2d2_session_create(detector, NULL, &session) != F2D2_OK)
        return (void *)1;
    for (i = 0; i < FRAMES; ++i) {
        f2d2_frame frame = grey(images[i]);
        f2d2_inspection inspection;
        F2D2_INIT(&inspection);
        if (f2d2_session_score(session, &frame, &inspection) != F2D2_OK || inspection.bpd != expected[i])
            ++wrong;
    }
    if (f2d2_session_destroy(session) != F2D2_OK)
        ++wrong;
    return (void *)wrong;
}

static void many_sessions(void) {
    pthread_t threads[THREADS];
    f2d2_session *session = NULL;
    size_t i;
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    for (i = 0; i < FRAMES; ++i)
        expected[i] = score(session, grey(images[i])).bpd;
    f2d2_session_destroy(session);
    for (i = 0; i < THREADS; ++i)
        CHECK(pthread_create(&threads[i], NULL, score_all, NULL) == 0);
    for (i = 0; i < THREADS; ++i) {
        void *wrong = (void *)1;
        pthread_join(threads[i], &wrong);
        CHECK(wrong == NULL);
    }
}

/* Stays inside of the call until the other thread says so. */
static void wait_inside(void *user_data, uint32_t level, const char *message) {
    (void)user_data;
    (void)level;
    (void)message;
    pthread_mutex_lock(&gate);
    inside = 1;
    pthread_cond_broadcast(&changed);
    while (!leave)
        pthread_cond_wait(&changed, &gate);
    pthread_mutex_unlock(&gate);
}

static void *score_once(void *argument) {
    f2d2_frame frame = grey(images[0]);
    f2d2_inspection inspection;
    f2d2_status status;
    F2D2_INIT(&inspection);
    status = f2d2_session_score((f2d2_session *)argument, &frame, &inspection);
    return (void *)(size_t)(status != F2D2_OK || inspection.bpd != expected[0]);
}

/* Case 48, then 49: while a call is under way its session is busy; destroying everything lets it end as usual. */
static void one_session(void) {
    pthread_t thread;
    f2d2_session *session = NULL;
    f2d2_session_options options;
    f2d2_frame frame = grey(images[0]);
    f2d2_inspection inspection;
    f2d2_stats stats;
    size_t needed = 0;
    void *wrong = (void *)1;
    F2D2_INIT(&inspection);
    F2D2_INIT(&stats);
    F2D2_INIT(&options);
    options.log = wait_inside;
    options.log_level = F2D2_LOG_DEBUG;
    STATUS(F2D2_OK, f2d2_session_create(detector, &options, &session));
    CHECK(pthread_create(&thread, NULL, score_once, session) == 0);
    pthread_mutex_lock(&gate);
    while (!inside)
        pthread_cond_wait(&changed, &gate);
    pthread_mutex_unlock(&gate);
    STATUS(F2D2_BUSY, f2d2_session_score(session, &frame, &inspection));
    STATUS(F2D2_BUSY, f2d2_session_score_batch(session, &frame, 1, &inspection, NULL));
    STATUS(F2D2_BUSY, f2d2_session_collect(session, &frame));
    STATUS(F2D2_BUSY, f2d2_session_get_stats(session, &stats));
    STATUS(F2D2_BUSY, f2d2_session_statistics(session, 0, NULL, 0, &needed));
    CHECK(inspection.steps == 0);
    STATUS(F2D2_OK, f2d2_detector_destroy(detector));
    STATUS(F2D2_OK, f2d2_session_destroy(session));
    STATUS(F2D2_DESTROYED, f2d2_session_score(session, &frame, &inspection));
    pthread_mutex_lock(&gate);
    leave = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&gate);
    pthread_join(thread, &wrong);
    CHECK(wrong == NULL);
}

static unsigned char shared[PIXELS];

static void *mutate(void *argument) {
    unsigned i = 0;
    (void)argument;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        __atomic_store_n(&shared[i % PIXELS], (unsigned char)i, __ATOMIC_RELAXED), ++i;
    return NULL;
}

/* Case 41: a torn image gives the verdict of some image; nothing else happens. */
static void mutated(void) {
    pthread_t thread;
    f2d2_session *session = NULL;
    int i;
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    CHECK(pthread_create(&thread, NULL, mutate, NULL) == 0);
    for (i = 0; i < 200; ++i)
        CHECK(isfinite(score(session, grey(shared)).bpd));
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    f2d2_session_destroy(session);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    detector = open_detector("model.onnx", 0);
    many_sessions();
    mutated();
    one_session();
    return end();
}

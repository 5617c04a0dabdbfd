/* Threads of the library, of the host, and none: the same verdicts to the last bit, and no more threads than asked for. */
#include <pthread.h>

#include "check.h"

#define FRAMES 60
#define MOST 3

static f2d2_inspection expected[FRAMES];
static f2d2_calibration *normal;

/* The numbers of two inspections of one frame, bit by bit. */
static int same(const f2d2_inspection *one, const f2d2_inspection *other) {
    return one->verdict == other->verdict && memcmp(&one->p_value, &other->p_value, sizeof(double)) == 0
        && memcmp(&one->score, &other->score, sizeof(double)) == 0
        && memcmp(&one->nll_nats, &other->nll_nats, sizeof(double)) == 0;
}

/* The frames in one batch, and one after the other. */
static void inspect(const f2d2_detector *detector, f2d2_inspection *batch, f2d2_inspection *single) {
    f2d2_session *session = NULL;
    f2d2_frame frames[FRAMES];
    size_t i;
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    for (i = 0; i < FRAMES; ++i) {
        frames[i] = grey(images[i]);
        F2D2_INIT(&batch[i]);
        single[i] = score(session, frames[i]);
    }
    STATUS(F2D2_OK, f2d2_session_score_batch(session, frames, FRAMES, batch, NULL));
    STATUS(F2D2_OK, f2d2_session_destroy(session));
}

/* How many inspections of the detector are not the expected ones. */
static size_t differences(const f2d2_detector *detector) {
    f2d2_inspection batch[FRAMES], single[FRAMES];
    size_t count = 0, i;
    inspect(detector, batch, single);
    for (i = 0; i < FRAMES; ++i)
        count += !same(&batch[i], &expected[i]) + !same(&single[i], &expected[i]);
    return count;
}

static f2d2_detector *judge(const char *engine, uint32_t threads, const f2d2_threads *pool) {
    f2d2_model *model = open_model("model.onnx");
    f2d2_detector *detector = NULL;
    f2d2_detector_options options;
    F2D2_INIT(&options);
    options.engine = engine;
    options.threads = threads;
    options.pool = pool;
    options.calibration = normal;
    STATUS(F2D2_OK, f2d2_detector_create(model, &options, &detector));
    f2d2_model_destroy(model);
    return detector;
}

/* Threads of this process, soon: a sanitizer has one of its own, and those that end take their time. */
static int threads_become(int count) {
    const struct timespec while_ending = {0, 10000000};
    int i;
    for (i = 0; i < 1000 && thread_count() != count; ++i)
        nanosleep(&while_ending, NULL);
    return thread_count() == count;
}

/* Two detectors on the pool; `beside` is the number of threads that they have beside this one, and `stay` how many of
   them others use, too. */
static void two_on(const char *engine, f2d2_threads *pool, uint32_t side_by_side, int beside, int stay) {
    const int before = thread_count() - beside;
    f2d2_detector *one = judge(engine, 0, pool), *two = judge(engine, 0, pool);
    f2d2_engine_report report;
    F2D2_INIT(&report);
    STATUS(F2D2_OK, f2d2_threads_destroy(pool));
    CHECK(differences(one) == 0 && differences(two) == 0);
    CHECK(threads_become(before + beside));
    STATUS(F2D2_OK, f2d2_detector_get_engine(two, &report));
    CHECK(report.threads == side_by_side && strcmp(report.engine, engine) == 0);
    STATUS(F2D2_OK, f2d2_detector_destroy(one));
    CHECK(differences(two) == 0);
    CHECK(threads_become(before + beside));
    STATUS(F2D2_OK, f2d2_detector_destroy(two));
    CHECK(threads_become(before + stay));
}

static void *work(void *argument) {
    return (void *)(size_t)f2d2_work_run((f2d2_work *)argument);
}

/* Everything without threads, on a host thread of 128 KiB. */
static void *alone(void *engine) {
    f2d2_threads *none = NULL;
    f2d2_detector *detector;
    STATUS(F2D2_OK, f2d2_threads_create_none(&none));
    detector = judge((const char *)engine, 0, none);
    STATUS(F2D2_OK, f2d2_threads_destroy(none));
    CHECK(differences(detector) == 0);
    STATUS(F2D2_OK, f2d2_detector_destroy(detector));
    return NULL;
}

static void pools(const char *engine) {
    f2d2_threads *pool = NULL, *again = NULL;
    f2d2_work *works[MOST] = {NULL, NULL, NULL};
    pthread_t threads[MOST];
    pthread_attr_t small;
    f2d2_inspection single[FRAMES];
    f2d2_detector *first = judge(engine, 1, NULL);
    const int before = thread_count() - 1;
    uint32_t count, i;
    inspect(first, expected, single);
    CHECK(differences(first) == 0);
    STATUS(F2D2_OK, f2d2_detector_destroy(first));
    CHECK(threads_become(before));

    STATUS(F2D2_OK, f2d2_threads_create_none(&pool));
    CHECK(thread_count() == before);
    two_on(engine, pool, 1, 0, 0);
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 128 << 10) == 0);
    CHECK(pthread_create(&threads[0], &small, alone, (void *)(size_t)engine) == 0);
    pthread_join(threads[0], NULL);
    for (count = 1; count <= MOST; ++count) {
        STATUS(F2D2_OK, f2d2_threads_create(count, &pool));
        two_on(engine, pool, count, (int)count, 0);
    }
    /* As many asked for twice, and by number, are the same ones. */
    STATUS(F2D2_OK, f2d2_threads_create(2, &again));
    first = judge(engine, 2, NULL);
    STATUS(F2D2_OK, f2d2_threads_create(2, &pool));
    two_on(engine, pool, 2, 2, 2);
    STATUS(F2D2_OK, f2d2_threads_destroy(again));
    STATUS(F2D2_OK, f2d2_detector_destroy(first));
    CHECK(threads_become(before));

    for (count = 1; count <= MOST; ++count) {
        STATUS(F2D2_OK, f2d2_threads_create_host(count, &pool));
        CHECK(thread_count() == before);
        for (i = 0; i < count; ++i) {
            STATUS(F2D2_OK, f2d2_threads_take_work(pool, &works[i]));
            CHECK(pthread_create(&threads[i], NULL, work, works[i]) == 0);
        }
        STATUS(F2D2_INVALID_VALUE, f2d2_threads_take_work(pool, &works[0]));
        two_on(engine, pool, count, (int)count, 0);
        for (i = 0; i < count; ++i) {
            void *status = (void *)1;
            CHECK(pthread_join(threads[i], &status) == 0 && status == (void *)F2D2_OK);
            STATUS(F2D2_DESTROYED, f2d2_work_run(works[i]));
        }
    }
    /* One of two threads could not be started: the other does its work. */
    STATUS(F2D2_OK, f2d2_threads_create_host(2, &pool));
    STATUS(F2D2_OK, f2d2_threads_take_work(pool, &works[0]));
    CHECK(pthread_create(&threads[0], NULL, work, works[0]) == 0);
    two_on(engine, pool, 2, 1, 0);
    CHECK(pthread_join(threads[0], NULL) == 0);

    /* The comparison notices another image and a number that is off by its last bit. */
    first = judge(engine, 1, NULL);
    images[0][0] ^= 1;
    CHECK(differences(first) == 2);
    images[0][0] ^= 1;
    expected[1].score = nextafter(expected[1].score, INFINITY);
    CHECK(differences(first) == 2);
    STATUS(F2D2_OK, f2d2_detector_destroy(first));
}

static void samplers(void) {
    f2d2_model *model = open_model("colour.onnx");
    unsigned char need[6 * 3 * PIXELS], got[6 * 3 * PIXELS];
    f2d2_sampler_options options;
    f2d2_sampler *sampler = NULL;
    f2d2_threads *pool = NULL;
    size_t needed = 0;
    uint32_t count;
    F2D2_INIT(&options);
    options.threads = 1;
    STATUS(F2D2_OK, f2d2_sampler_create(model, &options, &sampler));
    STATUS(F2D2_OK, f2d2_sampler_draw(sampler, 6, 2, 7, need, sizeof need, &needed));
    STATUS(F2D2_OK, f2d2_sampler_destroy(sampler));
    options.threads = 0;
    for (count = 0; count <= MOST; ++count) {
        if (count == 0)
            STATUS(F2D2_OK, f2d2_threads_create_none(&pool));
        else
            STATUS(F2D2_OK, f2d2_threads_create(count, &pool));
        options.pool = pool;
        STATUS(F2D2_OK, f2d2_sampler_create(model, &options, &sampler));
        STATUS(F2D2_OK, f2d2_threads_destroy(pool));
        memset(got, 0, sizeof got);
        STATUS(F2D2_OK, f2d2_sampler_draw(sampler, 6, 2, 7, got, sizeof got, &needed));
        CHECK(memcmp(got, need, sizeof need) == 0);
        STATUS(F2D2_OK, f2d2_sampler_destroy(sampler));
    }
    f2d2_model_destroy(model);
}

static void wrong_use(void) {
    f2d2_model *model = open_model("model.onnx");
    f2d2_threads *pool = NULL, *none = NULL;
    f2d2_work *works[2] = {NULL, NULL};
    f2d2_detector *detector = NULL;
    f2d2_sampler *sampler = NULL;
    f2d2_detector_options options;
    f2d2_sampler_options sampling;
    F2D2_INIT(&options);
    F2D2_INIT(&sampling);
    STATUS(F2D2_INVALID_OPTION, f2d2_threads_create(1025, &none));
    STATUS(F2D2_INVALID_OPTION, f2d2_threads_create_host(0, &none));
    STATUS(F2D2_INVALID_OPTION, f2d2_threads_create_host(UINT32_MAX, &none));
    CHECK(none == NULL);
    STATUS(F2D2_OK, f2d2_threads_create_none(&none));
    STATUS(F2D2_INVALID_VALUE, f2d2_threads_take_work(none, &works[0]));
    STATUS(F2D2_OK, f2d2_threads_destroy(none));
    CHECK(works[0] == NULL);

    /* Nobody runs the work while somebody needs it. */
    STATUS(F2D2_OK, f2d2_threads_create_host(3, &pool));
    STATUS(F2D2_OK, f2d2_threads_take_work(pool, &works[0]));
    STATUS(F2D2_OK, f2d2_threads_take_work(pool, &works[1]));
    STATUS(F2D2_WRONG_HANDLE, f2d2_work_run((f2d2_work *)pool));
    STATUS(F2D2_WRONG_HANDLE, f2d2_threads_destroy((f2d2_threads *)works[0]));
    options.pool = sampling.pool = pool;
    options.threads = sampling.threads = 2;
    STATUS(F2D2_INVALID_OPTION, f2d2_detector_create(model, &options, &detector));
    STATUS(F2D2_INVALID_OPTION, f2d2_sampler_create(model, &sampling, &sampler));
    options.threads = sampling.threads = 0;
    STATUS(F2D2_OK, f2d2_threads_destroy(pool));
    STATUS(F2D2_DESTROYED, f2d2_detector_create(model, &options, &detector));
    STATUS(F2D2_DESTROYED, f2d2_sampler_create(model, &sampling, &sampler));
    options.pool = (f2d2_threads *)works[1];
    STATUS(F2D2_WRONG_HANDLE, f2d2_detector_create(model, &options, &detector));
    CHECK(detector == NULL && sampler == NULL);
    /* Its threads are not used any more. */
    STATUS(F2D2_OK, f2d2_work_run(works[0]));
    STATUS(F2D2_DESTROYED, f2d2_work_destroy(works[0]));
    STATUS(F2D2_OK, f2d2_work_destroy(works[1]));
    STATUS(F2D2_DESTROYED, f2d2_work_run(works[1]));
    f2d2_model_destroy(model);
}

int main(int argc, char **argv) {
    f2d2_detector *detector;
    begin(argc, argv);
    detector = open_detector("model.onnx", 0);
    normal = calibrate(detector);
    STATUS(F2D2_OK, f2d2_detector_destroy(detector));
    pools("cpu");
    pools("tract");
    samplers();
    wrong_use();
    STATUS(F2D2_OK, f2d2_calibration_destroy(normal));
    return end();
}

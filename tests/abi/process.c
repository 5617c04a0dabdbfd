/* The process around the library: cases 51 to 57. The second argument says which. */
#include <dlfcn.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "check.h"

/* Case 51. */
static void forked(void) {
    f2d2_session *session = open_session("model.onnx");
    f2d2_frame frame = grey(images[0]);
    f2d2_inspection inspection;
    int status = -1;
    pid_t child;
    F2D2_INIT(&inspection);
    (void)score(session, frame);
    child = fork();
    if (child == 0) {
        f2d2_error error;
        f2d2_model *model = NULL;
        int good = f2d2_session_score(session, &frame, &inspection) == F2D2_FORKED;
        good &= f2d2_model_open(path("model.onnx"), NULL, &model) == F2D2_FORKED && model == NULL;
        good &= f2d2_session_destroy(session) == F2D2_FORKED;
        F2D2_INIT(&error);
        good &= f2d2_last_error(&error) == F2D2_OK && error.status == F2D2_FORKED;
        good &= strcmp(f2d2_status_name(F2D2_FORKED), "F2D2_FORKED") == 0;
        _exit(good ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)score(session, frame);
    f2d2_session_destroy(session);
}

/* Case 51, the right way round: the child is the first to use the library. */
static void forked_before(void) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        f2d2_session *session = open_session("model.onnx");
        (void)score(session, grey(images[0]));
        f2d2_session_destroy(session);
        _exit(end());
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

typedef f2d2_status (*open_function)(const char *, const f2d2_limits *, f2d2_model **);
typedef f2d2_status (*destroy_function)(f2d2_model *);

/* Case 52: the third argument is a copy of the library under another name. */
static void loaded_twice(const char *copy) {
    void *other = dlopen(copy, RTLD_NOW | RTLD_LOCAL), *again = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
    open_function open = NULL;
    destroy_function destroy = NULL;
    f2d2_model *own = open_model("model.onnx"), *foreign = NULL;
    f2d2_detector *detector = NULL;
    CHECK(other != NULL && again == other);
    *(void **)&open = dlsym(other, "f2d2_model_open");
    *(void **)&destroy = dlsym(other, "f2d2_model_destroy");
    CHECK(open != NULL && open != f2d2_model_open);
    CHECK(open(path("model.onnx"), NULL, &foreign) == F2D2_OK);
    STATUS(F2D2_INVALID_HANDLE, f2d2_detector_create(foreign, NULL, &detector));
    CHECK(destroy(own) == F2D2_INVALID_HANDLE);
    /* A live handle keeps working: the library is never unloaded. */
    CHECK(dlclose(other) == 0 && dlclose(again) == 0);
    CHECK(destroy(foreign) == F2D2_OK);
    f2d2_model_destroy(own);
}

static f2d2_session *early, *late;

/* Case 53: before main and after it. */
__attribute__((constructor)) static void before_main(void) {
    const char *where = getenv("F2D2_TEST_BEFORE_MAIN");
    if (where != NULL) {
        folder = where;
        early = open_session("model.onnx");
    }
}

static void after_main(void) {
    CHECK(isfinite(score(late, grey(images[0])).bpd));
    STATUS(F2D2_OK, f2d2_session_destroy(late));
    if (end() != 0)
        _exit(1);
    fflush(stdout);
}

static void before_and_after_main(void) {
    CHECK(early != NULL);
    (void)score(early, grey(images[0]));
    f2d2_session_destroy(early);
    late = open_session("model.onnx");
    CHECK(atexit(after_main) == 0);
}

static void *whole_way(void *argument) {
    f2d2_session *session = open_judge();
    CHECK(isfinite(score(session, grey(images[0])).bpd));
    f2d2_session_destroy(session);
    return argument;
}

/* Case 54: everything on a stack of 128 KiB, musl's default. */
static void small_stack(void) {
    pthread_t thread;
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 128 << 10) == 0);
    CHECK(pthread_create(&thread, &attributes, whole_way, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

/* Case 55: the third argument is a locale with decimal commas. */
static void comma_locale(const char *name) {
    f2d2_detector *detector;
    f2d2_calibration *made, *loaded = NULL;
    char number[16];
    CHECK(setlocale(LC_ALL, name) != NULL);
    snprintf(number, sizeof number, "%.1f", 0.5);
    CHECK(strcmp(number, "0,5") == 0);
    detector = open_detector("model.onnx", 0);
    made = calibrate(detector);
    STATUS(F2D2_OK, f2d2_calibration_save(made, path("comma.json")));
    STATUS(F2D2_OK, f2d2_calibration_load(path("comma.json"), &loaded));
    f2d2_calibration_destroy(made);
    f2d2_calibration_destroy(loaded);
    f2d2_detector_destroy(detector);
}

/* Case 56: the host's floating-point environment changes no score, and is the host's again afterwards. */
static void floating_point(void) {
    const int rounding[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    f2d2_session *session = open_session("model.onnx"), *strange;
    const double expected = score(session, grey(images[0])).nll_nats;
    size_t i;
    for (i = 0; i < 3; ++i) {
        CHECK(fesetround(rounding[i]) == 0);
        strange = open_session("model.onnx");
        CHECK(score(session, grey(images[0])).nll_nats == expected);
        CHECK(score(strange, grey(images[0])).nll_nats == expected);
        CHECK(fegetround() == rounding[i]);
        f2d2_session_destroy(strange);
    }
    fesetround(FE_TONEAREST);
#if defined(__SSE__)
    {
        /* Flush to zero, denormals are zero, and all exceptions unmasked. */
        const unsigned before = _mm_getcsr(), host = (before | 0x8040) & ~0x1f80u;
        _mm_setcsr(host);
        strange = open_session("model.onnx");
        CHECK(score(strange, grey(images[0])).nll_nats == expected);
        CHECK((_mm_getcsr() & ~0x3fu) == (host & ~0x3fu));
        _mm_setcsr(before);
        f2d2_session_destroy(strange);
    }
#endif
    f2d2_session_destroy(session);
}

/* Case 57: run under hostile variables, this prints the same as without them. */
static void environment(void) {
    f2d2_model *model = open_model("model.onnx");
    f2d2_detector *detector = NULL;
    f2d2_session *session = NULL;
    f2d2_engine_report report;
    F2D2_INIT(&report);
    STATUS(F2D2_OK, f2d2_detector_create(model, NULL, &detector));
    STATUS(F2D2_OK, f2d2_detector_get_engine(detector, &report));
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    printf("%.17g on %s with %u threads\n", score(session, grey(images[0])).nll_nats, report.engine, report.threads);
    f2d2_session_destroy(session);
    f2d2_detector_destroy(detector);
    f2d2_model_destroy(model);
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[2] : "", *more = argc > 3 ? argv[3] : "";
    begin(argc, argv);
    if (strcmp(what, "fork") == 0)
        forked();
    else if (strcmp(what, "fork-before") == 0)
        forked_before();
    else if (strcmp(what, "twice") == 0)
        loaded_twice(more);
    else if (strcmp(what, "main") == 0) {
        before_and_after_main();
        return 0;
    } else if (strcmp(what, "stack") == 0)
        small_stack();
    else if (strcmp(what, "locale") == 0)
        comma_locale(more);
    else if (strcmp(what, "floats") == 0)
        floating_point();
    else if (strcmp(what, "environment") == 0)
        environment();
    else
        CHECK(!"a known name");
    return end();
}

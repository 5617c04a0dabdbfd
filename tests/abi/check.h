/* What the C test programs share: checks that say where they failed, and the models and images of the test. */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "f2d2.h"

/* Size of the grey and the colour model's images; tests/abi.rs writes them. */
#define WIDTH 8
#define HEIGHT 6
#define PIXELS (WIDTH * HEIGHT)
#define IMAGES 300

static unsigned long checks, faults;
static const char *folder;
/* Whether threads of the library may stay behind: those of an object that a longjmp left in use. */
static int threads_may_stay;
static unsigned char images[IMAGES][PIXELS];

/* Says on failure what failed, and goes on. */
#define CHECK(condition) \
    do { \
        ++checks; \
        if (!(condition)) { \
            ++faults; \
            printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
        } \
    } while (0)

/* The call gives this status, and the record of the thread agrees with every failure. */
#define STATUS(expected, call) check_status(__FILE__, __LINE__, #call, (expected), (call))

static inline void check_status(const char *file, int line, const char *call, f2d2_status expected, f2d2_status got) {
    f2d2_error error;
    ++checks;
    F2D2_INIT(&error);
    if (f2d2_last_error(&error) != F2D2_OK) {
        ++faults;
        printf("%s:%d: f2d2_last_error failed\n", file, line);
        return;
    }
    if (got != expected) {
        ++faults;
        printf("%s:%d: %s gave %s, need %s (%s)\n", file, line, call, f2d2_status_name(got), f2d2_status_name(expected),
               got == F2D2_OK ? "" : error.message);
    }
    if (got != F2D2_OK
        && (error.status != got || error.message[0] == '\0' || strncmp(error.function, "f2d2_", 5) != 0)) {
        ++faults;
        printf("%s:%d: %s is recorded as %s in %s: %s\n", file, line, call, f2d2_status_name(error.status),
               error.function, error.message);
    }
}

/* A path in the folder of the test. The text is good until the next call. */
static inline const char *path(const char *name) {
    static char text[4096];
    snprintf(text, sizeof text, "%s/%s", folder, name);
    return text;
}

/* First argument: the folder with model.onnx, colour.onnx and images.raw. */
static inline void begin(int argc, char **argv) {
    FILE *file;
    if (argc < 2) {
        printf("usage: %s FOLDER\n", argv[0]);
        exit(2);
    }
    folder = argv[1];
    file = fopen(path("images.raw"), "rb");
    if (file == NULL || fread(images, sizeof images, 1, file) != 1) {
        printf("cannot read %s\n", path("images.raw"));
        exit(2);
    }
    fclose(file);
}

/* Threads of this process. */
static inline int thread_count(void) {
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    if (tasks == NULL)
        return -1;
    while (readdir(tasks) != NULL)
        ++count;
    closedir(tasks);
    return count - 2;
}

/* Exit code of the program; every handle must have been destroyed, and the threads of detectors end soon after. */
static inline int end(void) {
    const struct timespec while_ending = {0, 10000000};
    size_t alive = 1;
    int i;
#if !defined(__SANITIZE_THREAD__)
    for (i = 0; i < 1000 && !threads_may_stay && thread_count() != 1; ++i)
        nanosleep(&while_ending, NULL);
    CHECK(threads_may_stay || thread_count() == 1);
#else
    (void)while_ending;
    (void)i;
    (void)thread_count;
    (void)threads_may_stay;
#endif
    STATUS(F2D2_OK, f2d2_live_handles(&alive));
    CHECK(alive == 0);
    printf("%lu checks, %lu failed\n", checks, faults);
    return faults == 0 ? 0 : 1;
}

static inline f2d2_frame grey(const void *pixels) {
    f2d2_frame frame;
    F2D2_INIT(&frame);
    frame.format = F2D2_FORMAT_GRAY8;
    frame.data = pixels;
    frame.size = PIXELS;
    frame.width = WIDTH;
    frame.height = HEIGHT;
    return frame;
}

static inline f2d2_model *open_model(const char *name) {
    f2d2_model *model = NULL;
    STATUS(F2D2_OK, f2d2_model_open(path(name), NULL, &model));
    return model;
}

/* A detector with one thread. */
static inline f2d2_detector *open_detector(const char *name, uint32_t heat_maps) {
    f2d2_model *model = open_model(name);
    f2d2_detector *detector = NULL;
    f2d2_detector_options options;
    F2D2_INIT(&options);
    options.threads = 1;
    options.heat_maps = heat_maps;
    STATUS(F2D2_OK, f2d2_detector_create(model, &options, &detector));
    f2d2_model_destroy(model);
    return detector;
}

/* A session of a detector that is kept alive by it alone. */
static inline f2d2_session *open_session(const char *name) {
    f2d2_detector *detector = open_detector(name, 0);
    f2d2_session *session = NULL;
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    f2d2_detector_destroy(detector);
    return session;
}

/* A calibration of `detector` on all images, which may call 5 % of normal images anomalous. */
static inline f2d2_calibration *calibrate(const f2d2_detector *detector) {
    static f2d2_frame frames[IMAGES];
    f2d2_calibration *calibration = NULL;
    f2d2_calibration_options options;
    size_t i;
    F2D2_INIT(&options);
    options.alpha = 0.05;
    for (i = 0; i < IMAGES; ++i)
        frames[i] = grey(images[i]);
    STATUS(F2D2_OK, f2d2_detector_calibrate(detector, frames, IMAGES, &options, NULL, &calibration));
    return calibration;
}

/* A session that judges. */
static inline f2d2_session *open_judge(void) {
    f2d2_detector *detector = open_detector("model.onnx", 1), *judge = NULL;
    f2d2_calibration *calibration = calibrate(detector);
    f2d2_session *session = NULL;
    STATUS(F2D2_OK, f2d2_detector_calibrated(detector, calibration, &judge));
    STATUS(F2D2_OK, f2d2_session_create(judge, NULL, &session));
    f2d2_calibration_destroy(calibration);
    f2d2_detector_destroy(detector);
    f2d2_detector_destroy(judge);
    return session;
}

/* The inspection of a frame that can be scored. */
static inline f2d2_inspection score(f2d2_session *session, f2d2_frame frame) {
    f2d2_inspection inspection;
    F2D2_INIT(&inspection);
    STATUS(F2D2_OK, f2d2_session_score(session, &frame, &inspection));
    return inspection;
}

#endif

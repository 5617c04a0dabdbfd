/* Callbacks that fail, block, jump or destroy, and models that callbacks give: case 50. */
#include <pthread.h>
#include <setjmp.h>

#include "check.h"

struct reader {
    FILE *file;
    size_t piece;
    int32_t code;
    int endless, lies;
    pthread_t thread;
};

static int32_t read_model(void *user_data, void *buffer, size_t capacity, size_t *count) {
    struct reader *reader = (struct reader *)user_data;
    CHECK(pthread_equal(reader->thread, pthread_self()));
    if (reader->endless) {
        memset(buffer, 'x', capacity);
        *count = capacity;
        return 0;
    }
    *count = fread(buffer, 1, reader->piece < capacity ? reader->piece : capacity, reader->file);
    if (reader->lies)
        *count = capacity + 1;
    return reader->code;
}

static void reading(void) {
    const size_t pieces[] = {1, 17, 4096, (size_t)1 << 30};
    struct reader reader;
    f2d2_limits limits;
    f2d2_model *model = NULL;
    size_t i;
    memset(&reader, 0, sizeof reader);
    reader.thread = pthread_self();
    F2D2_INIT(&limits);
    limits.file_bytes = 1 << 20;
    for (i = 0; i < 4; ++i) {
        f2d2_model_info info;
        F2D2_INIT(&info);
        reader.file = fopen(path("model.onnx"), "rb");
        reader.piece = pieces[i];
        STATUS(F2D2_OK, f2d2_model_open_callback(read_model, &reader, &limits, &model));
        STATUS(F2D2_OK, f2d2_model_get_info(model, &info));
        CHECK((long)info.file_bytes == ftell(reader.file));
        f2d2_model_destroy(model);
        fclose(reader.file);
    }
    model = NULL;
    reader.file = fopen(path("model.onnx"), "rb");
    reader.code = -3;
    STATUS(F2D2_CALLBACK_FAILED, f2d2_model_open_callback(read_model, &reader, NULL, &model));
    reader.code = 0;
    reader.lies = 1;
    STATUS(F2D2_CALLBACK_FAILED, f2d2_model_open_callback(read_model, &reader, NULL, &model));
    reader.lies = 0;
    reader.endless = 1;
    STATUS(F2D2_MODEL_TOO_LARGE, f2d2_model_open_callback(read_model, &reader, &limits, &model));
    fclose(reader.file);
    limits.file_bytes = 10;
    STATUS(F2D2_MODEL_TOO_LARGE, f2d2_model_open(path("model.onnx"), &limits, &model));
    CHECK(model == NULL);
}

struct listener {
    pthread_t thread;
    unsigned calls, warnings;
    f2d2_cancel *cancel;
    char last[256];
};

static void listen(void *user_data, uint32_t level, const char *message) {
    struct listener *listener = (struct listener *)user_data;
    CHECK(pthread_equal(listener->thread, pthread_self()));
    listener->calls += 1;
    listener->warnings += level == F2D2_LOG_WARNING;
    snprintf(listener->last, sizeof listener->last, "%s", message);
    if (listener->cancel != NULL)
        STATUS(F2D2_OK, f2d2_cancel_set(listener->cancel));
}

/* Messages come on the thread of the call, at the level that was asked for; a flag set meanwhile cancels. */
static void listening(void) {
    struct listener listener;
    f2d2_model *model = open_model("model.onnx");
    f2d2_detector *detector = NULL;
    f2d2_session *session = NULL;
    f2d2_calibration *calibration = NULL;
    f2d2_cancel *cancel = NULL;
    f2d2_detector_options options;
    f2d2_session_options session_options;
    f2d2_inspection inspection, inspections[IMAGES];
    f2d2_frame frames[IMAGES];
    f2d2_calibration_options rates;
    float nan = NAN;
    size_t i;
    memset(&listener, 0, sizeof listener);
    listener.thread = pthread_self();
    F2D2_INIT(&options);
    options.log = listen;
    options.log_user_data = &listener;
    options.threads = 2;
    STATUS(F2D2_OK, f2d2_detector_create(model, &options, &detector));
    CHECK(listener.calls == 1 && strstr(listener.last, "engine ") == listener.last);
    F2D2_INIT(&session_options);
    session_options.log = listen;
    session_options.log_user_data = &listener;
    session_options.max_batch = IMAGES;
    STATUS(F2D2_OK, f2d2_session_create(detector, &session_options, &session));
    (void)score(session, grey(images[0]));
    CHECK(listener.calls == 1);
    frames[0] = grey(&nan);
    frames[0].format = F2D2_FORMAT_GRAY_F32;
    frames[0].size = sizeof nan;
    frames[0].width = frames[0].height = 1;
    F2D2_INIT(&inspection);
    STATUS(F2D2_OK, f2d2_session_score(session, &frames[0], &inspection));
    CHECK(listener.calls == 2 && listener.warnings == 1 && strstr(listener.last, "not judged") != NULL);

    /* A frame that is left out of a calibration is told, and sets the flag. */
    for (i = 1; i < IMAGES; ++i)
        frames[i] = grey(images[i]);
    for (i = 0; i < IMAGES; ++i) {
        F2D2_INIT(&inspections[i]);
        inspections[i].verdict = 77;
    }
    F2D2_INIT(&rates);
    rates.alpha = 0.05;
    STATUS(F2D2_OK, f2d2_cancel_create(&cancel));
    STATUS(F2D2_OK, f2d2_detector_calibrate(detector, frames, IMAGES, &rates, cancel, &calibration));
    CHECK(listener.warnings == 2 && strstr(listener.last, "299 of 300") != NULL);
    f2d2_calibration_destroy(calibration);
    calibration = NULL;
    listener.cancel = cancel;
    STATUS(F2D2_CANCELLED, f2d2_detector_calibrate(detector, frames, IMAGES, &rates, cancel, &calibration));
    CHECK(calibration == NULL);
    STATUS(F2D2_CANCELLED, f2d2_session_score_batch(session, frames, IMAGES, inspections, cancel));
    for (i = 0; i < IMAGES; ++i)
        CHECK(inspections[i].verdict == 77);
    listener.cancel = NULL;
    STATUS(F2D2_OK, f2d2_cancel_reset(cancel));
    STATUS(F2D2_OK, f2d2_session_score_batch(session, frames, IMAGES, inspections, cancel));
    CHECK(inspections[0].verdict == F2D2_VERDICT_INVALID && isfinite(inspections[IMAGES - 1].bpd));
    f2d2_cancel_destroy(cancel);
    f2d2_session_destroy(session);
    f2d2_detector_destroy(detector);
    f2d2_model_destroy(model);
}

static jmp_buf out;

static void jump(void *user_data, uint32_t level, const char *message) {
    (void)user_data;
    (void)level;
    (void)message;
    longjmp(out, 1);
}

/* Forbidden. What it does is bounded all the same: that one session stays busy for ever. */
static void jumping(void) {
    f2d2_detector *detector = open_detector("model.onnx", 0);
    f2d2_session *session = NULL, *other = NULL;
    f2d2_session_options options;
    f2d2_frame frame = grey(images[0]);
    f2d2_inspection inspection;
    F2D2_INIT(&inspection);
    threads_may_stay = 1;
    F2D2_INIT(&options);
    options.log = jump;
    options.log_level = F2D2_LOG_DEBUG;
    STATUS(F2D2_OK, f2d2_session_create(detector, &options, &session));
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &other));
    if (setjmp(out) == 0) {
        f2d2_status status = f2d2_session_score(session, &frame, &inspection);
        CHECK(status != status);
    }
    STATUS(F2D2_BUSY, f2d2_session_score(session, &frame, &inspection));
    CHECK(isfinite(score(other, frame).bpd));
    STATUS(F2D2_OK, f2d2_session_destroy(session));
    f2d2_session_destroy(other);
    f2d2_detector_destroy(detector);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    if (argc > 2 && strcmp(argv[2], "jump") == 0) {
        jumping();
        return end();
    }
    reading();
    listening();
    return end();
}

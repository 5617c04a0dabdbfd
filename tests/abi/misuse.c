/* Wrong use of the interface from one thread: cases 44 to 47 and 49. */
#include "check.h"

/* tests/abi.rs checks that every pointer parameter of every function of the header stands in one of these. */
#define NULL_CASE(function, parameter, call) STATUS(F2D2_NULL_POINTER, function call)
#define NULL_FINE(function, parameter, call) STATUS(F2D2_OK, function call)

static f2d2_model *model;
static f2d2_detector *detector;
static f2d2_session *session;
static f2d2_calibration *calibration;
static f2d2_sampler *sampler;
static f2d2_cancel *cancel;
static f2d2_threads *threads;

/* What must stay as it is where a call fails. */
static void *const untouched = (void *)&checks;

static int32_t read_nothing(void *user_data, void *buffer, size_t capacity, size_t *count) {
    (void)user_data;
    (void)buffer;
    (void)capacity;
    *count = 0;
    return 0;
}

static int32_t read_model(void *user_data, void *buffer, size_t capacity, size_t *count) {
    *count = fread(buffer, 1, capacity, (FILE *)user_data);
    return 0;
}

static void case_44_null(void) {
    f2d2_frame frame = grey(images[0]), frames[2];
    f2d2_inspection inspection, inspections[2];
    f2d2_model *m = (f2d2_model *)untouched;
    f2d2_detector *d = (f2d2_detector *)untouched;
    f2d2_session *s = (f2d2_session *)untouched;
    f2d2_calibration *c = (f2d2_calibration *)untouched;
    f2d2_sampler *p = (f2d2_sampler *)untouched;
    f2d2_work *w = (f2d2_work *)untouched;
    f2d2_model_info model_info;
    f2d2_engine_report report;
    f2d2_calibration_info calibration_info;
    f2d2_calibration_options options;
    f2d2_stats stats;
    char text[64];
    double values[64], value = 7;
    float map[PIXELS];
    uint8_t pixels[PIXELS];
    uint32_t side;
    uint64_t ns = 7;
    size_t n = 7;
    FILE *file = fopen(path("model.onnx"), "rb");
    F2D2_INIT(&inspection);
    F2D2_INIT(&inspections[0]);
    F2D2_INIT(&inspections[1]);
    F2D2_INIT(&model_info);
    F2D2_INIT(&report);
    F2D2_INIT(&calibration_info);
    F2D2_INIT(&options);
    F2D2_INIT(&stats);
    options.alpha = 0.05;
    frames[0] = frames[1] = frame;
    STATUS(F2D2_OK, f2d2_session_score(session, &frame, &inspection));

    CHECK(f2d2_last_error(NULL) == F2D2_NULL_POINTER); /* NULL_CASE(f2d2_last_error, error, */
    NULL_CASE(f2d2_live_handles, count, (NULL));
    NULL_CASE(f2d2_cancel_create, cancel, (NULL));
    NULL_CASE(f2d2_cancel_set, cancel, (NULL));
    NULL_CASE(f2d2_cancel_reset, cancel, (NULL));
    NULL_FINE(f2d2_cancel_destroy, cancel, (NULL));
    NULL_CASE(f2d2_threads_create, threads, (1, NULL));
    NULL_CASE(f2d2_threads_create_none, threads, (NULL));
    NULL_CASE(f2d2_threads_create_host, threads, (1, NULL));
    NULL_CASE(f2d2_threads_take_work, threads, (NULL, &w));
    NULL_CASE(f2d2_threads_take_work, work, (threads, NULL));
    NULL_CASE(f2d2_work_run, work, (NULL));
    NULL_FINE(f2d2_work_destroy, work, (NULL));
    NULL_FINE(f2d2_threads_destroy, threads, (NULL));
    NULL_CASE(f2d2_model_open, path, (NULL, NULL, &m));
    NULL_CASE(f2d2_model_open, model, (path("model.onnx"), NULL, NULL));
    NULL_CASE(f2d2_model_open_memory, data, (NULL, 9, NULL, &m));
    NULL_CASE(f2d2_model_open_memory, model, ("x", 1, NULL, NULL));
    NULL_CASE(f2d2_model_open_callback, read, (NULL, file, NULL, &m));
    NULL_CASE(f2d2_model_open_callback, model, (read_model, file, NULL, NULL));
    NULL_CASE(f2d2_model_get_info, model, (NULL, &model_info));
    NULL_CASE(f2d2_model_get_info, info, (model, NULL));
    NULL_FINE(f2d2_model_destroy, model, (NULL));
    NULL_CASE(f2d2_calibration_load, path, (NULL, &c));
    NULL_CASE(f2d2_calibration_load, calibration, ("x", NULL));
    NULL_CASE(f2d2_calibration_load_memory, data, (NULL, 9, &c));
    NULL_CASE(f2d2_calibration_load_memory, calibration, ("x", 1, NULL));
    NULL_CASE(f2d2_calibration_save, calibration, (NULL, path("c.json")));
    NULL_CASE(f2d2_calibration_save, path, (calibration, NULL));
    NULL_CASE(f2d2_calibration_save_memory, calibration, (NULL, text, sizeof text, &n));
    NULL_CASE(f2d2_calibration_save_memory, needed, (calibration, text, sizeof text, NULL));
    NULL_CASE(f2d2_calibration_get_info, calibration, (NULL, &calibration_info));
    NULL_CASE(f2d2_calibration_get_info, info, (calibration, NULL));
    NULL_CASE(f2d2_calibration_minimum_images, images, (&options, NULL));
    NULL_FINE(f2d2_calibration_destroy, calibration, (NULL));
    NULL_CASE(f2d2_detector_create, model, (NULL, NULL, &d));
    NULL_CASE(f2d2_detector_create, detector, (model, NULL, NULL));
    NULL_CASE(f2d2_detector_calibrated, detector, (NULL, calibration, &d));
    NULL_CASE(f2d2_detector_calibrated, calibration, (detector, NULL, &d));
    NULL_CASE(f2d2_detector_calibrated, calibrated, (detector, calibration, NULL));
    NULL_CASE(f2d2_detector_get_engine, detector, (NULL, &report));
    NULL_CASE(f2d2_detector_get_engine, report, (detector, NULL));
    NULL_CASE(f2d2_detector_self_test, detector, (NULL));
    NULL_CASE(f2d2_detector_warm_up, detector, (NULL));
    NULL_CASE(f2d2_detector_calibrate, detector, (NULL, frames, 2, NULL, cancel, &c));
    NULL_CASE(f2d2_detector_calibrate, frames, (detector, NULL, 2, NULL, cancel, &c));
    NULL_CASE(f2d2_detector_calibrate, calibration, (detector, frames, 2, NULL, cancel, NULL));
    NULL_FINE(f2d2_detector_destroy, detector, (NULL));
    NULL_CASE(f2d2_stats_quantile, stats, (NULL, 0.5, &ns));
    NULL_CASE(f2d2_stats_quantile, latency_ns, (&stats, 0.5, NULL));
    NULL_CASE(f2d2_session_create, detector, (NULL, NULL, &s));
    NULL_CASE(f2d2_session_create, session, (detector, NULL, NULL));
    NULL_CASE(f2d2_session_score, session, (NULL, &frame, &inspection));
    NULL_CASE(f2d2_session_score, frame, (session, NULL, &inspection));
    NULL_CASE(f2d2_session_score, inspection, (session, &frame, NULL));
    NULL_CASE(f2d2_session_score_batch, session, (NULL, frames, 2, inspections, NULL));
    NULL_CASE(f2d2_session_score_batch, frames, (session, NULL, 2, inspections, NULL));
    NULL_CASE(f2d2_session_score_batch, inspections, (session, frames, 2, NULL, NULL));
    NULL_CASE(f2d2_session_reason, session, (NULL, 0, text, sizeof text, &n));
    NULL_CASE(f2d2_session_reason, needed, (session, 0, text, sizeof text, NULL));
    NULL_CASE(f2d2_session_statistics, session, (NULL, 0, values, 64, &n));
    NULL_CASE(f2d2_session_statistics, needed, (session, 0, values, 64, NULL));
    NULL_CASE(f2d2_session_statistic_name, session, (NULL, 0, 0, text, sizeof text, &n));
    NULL_CASE(f2d2_session_statistic_name, needed, (session, 0, 0, text, sizeof text, NULL));
    NULL_CASE(f2d2_session_statistic, session, (NULL, 0, "nll@1", &value));
    NULL_CASE(f2d2_session_statistic, name, (session, 0, NULL, &value));
    NULL_CASE(f2d2_session_statistic, value, (session, 0, "nll@1", NULL));
    NULL_CASE(f2d2_session_heat_map, session, (NULL, 0, map, PIXELS, &n, &side, &side));
    NULL_CASE(f2d2_session_heat_map, needed, (session, 0, map, PIXELS, NULL, &side, &side));
    NULL_CASE(f2d2_session_collect, session, (NULL, &frame));
    NULL_CASE(f2d2_session_collect, frame, (session, NULL));
    NULL_CASE(f2d2_session_calibrate, session, (NULL, NULL, &c));
    NULL_CASE(f2d2_session_calibrate, calibration, (session, NULL, NULL));
    NULL_CASE(f2d2_session_get_stats, session, (NULL, &stats));
    NULL_CASE(f2d2_session_get_stats, stats, (session, NULL));
    NULL_FINE(f2d2_session_destroy, session, (NULL));
    NULL_CASE(f2d2_sampler_create, model, (NULL, NULL, &p));
    NULL_CASE(f2d2_sampler_create, sampler, (model, NULL, NULL));
    NULL_CASE(f2d2_sampler_draw, sampler, (NULL, 1, 1, 1, pixels, sizeof pixels, &n));
    NULL_CASE(f2d2_sampler_draw, needed, (sampler, 1, 1, 1, pixels, sizeof pixels, NULL));
    NULL_CASE(f2d2_sampler_draw_guided, sampler, (NULL, 1, 1, 1, 0.1, pixels, sizeof pixels, &n));
    NULL_CASE(f2d2_sampler_draw_guided, needed, (sampler, 1, 1, 1, 0.1, pixels, sizeof pixels, NULL));
    NULL_FINE(f2d2_sampler_destroy, sampler, (NULL));
    CHECK(m == untouched && d == untouched && s == untouched && c == untouched && p == untouched && w == untouched);
    CHECK(n == 7 && ns == 7 && value == 7);

    NULL_FINE(f2d2_model_open, limits, (path("model.onnx"), NULL, &m));
    STATUS(F2D2_OK, f2d2_model_destroy(m));
    rewind(file);
    NULL_FINE(f2d2_model_open_callback, limits, (read_model, file, NULL, &m));
    STATUS(F2D2_OK, f2d2_model_destroy(m));
    NULL_FINE(f2d2_detector_create, options, (model, NULL, &d));
    STATUS(F2D2_OK, f2d2_detector_destroy(d));
    NULL_FINE(f2d2_session_create, options, (detector, NULL, &s));
    STATUS(F2D2_OK, f2d2_session_destroy(s));
    NULL_FINE(f2d2_sampler_create, options, (model, NULL, &p));
    STATUS(F2D2_OK, f2d2_sampler_destroy(p));
    NULL_FINE(f2d2_calibration_minimum_images, options, (NULL, &n));
    NULL_FINE(f2d2_session_score_batch, cancel, (session, frames, 2, inspections, NULL));
    NULL_FINE(f2d2_session_reason, buffer, (session, 0, NULL, 0, &n));
    NULL_FINE(f2d2_session_statistics, values, (session, 0, NULL, 0, &n));
    NULL_FINE(f2d2_session_statistic_name, buffer, (session, 0, 0, NULL, 0, &n));
    NULL_FINE(f2d2_session_heat_map, values, (session, 0, NULL, 0, &n, &side, &side));
    NULL_FINE(f2d2_session_heat_map, width, (session, 0, map, PIXELS, &n, NULL, &side));
    NULL_FINE(f2d2_session_heat_map, height, (session, 0, map, PIXELS, &n, &side, NULL));
    NULL_FINE(f2d2_calibration_save_memory, buffer, (calibration, NULL, 0, &n));
    NULL_FINE(f2d2_sampler_draw, pixels, (sampler, 1, 1, 1, NULL, 0, &n));
    NULL_FINE(f2d2_sampler_draw_guided, pixels, (sampler, 1, 1, 1, 0.1, NULL, 0, &n));
    /* NULL is as good as any other value here; what comes after fails for another reason. */
    STATUS(F2D2_MODEL_CORRUPT, f2d2_model_open_memory("x", 1, NULL, &m)); /* NULL_FINE(f2d2_model_open_memory, limits, */
    STATUS(F2D2_MODEL_CORRUPT, f2d2_model_open_memory(NULL, 0, NULL, &m));
    STATUS(F2D2_MODEL_CORRUPT,
           f2d2_model_open_callback(read_nothing, NULL, NULL, &m)); /* NULL_FINE(f2d2_model_open_callback, user_data, */
    STATUS(F2D2_TOO_FEW_IMAGES,
           f2d2_detector_calibrate(detector, frames, 2, NULL, NULL, &c)); /* NULL_FINE(f2d2_detector_calibrate, options, */
    STATUS(F2D2_TOO_FEW_IMAGES,
           f2d2_detector_calibrate(detector, frames, 2, &options, NULL, &c)); /* NULL_FINE(f2d2_detector_calibrate, cancel, */
    STATUS(F2D2_TOO_FEW_IMAGES, f2d2_session_calibrate(session, NULL, &c)); /* NULL_FINE(f2d2_session_calibrate, options, */
    CHECK(c == untouched);
    fclose(file);
}

/* Every size that is none; a larger one of a later header whose new fields are zero; and one with a field set. */
static void case_45_sizes(void) {
    const uint32_t wrong[] = {0, 1, 3, 4, 7, sizeof(f2d2_frame) - 8, sizeof(f2d2_frame) + 1, 65544, UINT32_MAX};
    struct {
        f2d2_frame frame;
        uint64_t later[2];
    } frame;
    struct {
        f2d2_inspection inspection;
        uint64_t later[2];
    } inspection;
    struct {
        f2d2_detector_options options;
        uint64_t later[2];
    } options;
    f2d2_inspection fine;
    f2d2_frame frames[2];
    f2d2_inspection inspections[2];
    f2d2_detector *made = NULL;
    f2d2_model *opened = NULL;
    f2d2_limits limits;
    f2d2_calibration_options rates;
    f2d2_session_options session_options;
    f2d2_session *other = NULL;
    size_t i, n = 0;
    memset(&frame, 0, sizeof frame);
    memset(&inspection, 0xa5, sizeof inspection);
    F2D2_INIT(&fine);
    frame.frame = grey(images[0]);
    for (i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        frame.frame.struct_size = wrong[i];
        STATUS(F2D2_INVALID_STRUCT, f2d2_session_score(session, &frame.frame, &fine));
    }
    frame.frame.struct_size = sizeof frame;
    inspection.inspection.struct_size = sizeof inspection;
    STATUS(F2D2_OK, f2d2_session_score(session, &frame.frame, &inspection.inspection));
    CHECK(isfinite(inspection.inspection.bpd) && inspection.inspection.struct_size == sizeof inspection);
    CHECK(inspection.later[0] == 0 && inspection.later[1] == 0);
    frame.later[1] = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_session_score(session, &frame.frame, &inspection.inspection));
    inspection.inspection.struct_size = sizeof(f2d2_inspection) - 8;
    frame.later[1] = 0;
    STATUS(F2D2_INVALID_STRUCT, f2d2_session_score(session, &frame.frame, &inspection.inspection));

    memset(&options, 0, sizeof options);
    options.options.struct_size = sizeof options;
    STATUS(F2D2_OK, f2d2_detector_create(model, &options.options, &made));
    f2d2_detector_destroy(made);
    options.later[0] = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_detector_create(model, &options.options, &made));

    F2D2_INIT(&inspections[0]);
    F2D2_INIT(&inspections[1]);
    frames[0] = frames[1] = grey(images[0]);
    frames[1].struct_size += 8;
    STATUS(F2D2_INVALID_STRUCT, f2d2_session_score_batch(session, frames, 2, inspections, NULL));
    frames[1].struct_size -= 8;
    inspections[1].struct_size = 0;
    STATUS(F2D2_INVALID_STRUCT, f2d2_session_score_batch(session, frames, 2, inspections, NULL));
    STATUS(F2D2_LIMIT_EXCEEDED, f2d2_session_score_batch(session, frames, SIZE_MAX, inspections, NULL));
    STATUS(F2D2_LIMIT_EXCEEDED, f2d2_detector_calibrate(detector, frames, SIZE_MAX / 8, NULL, NULL, &calibration));

    /* Fields without a meaning yet. */
    F2D2_INIT(&limits);
    limits.reserved = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_model_open(path("model.onnx"), &limits, &opened));
    F2D2_INIT(&rates);
    rates.reserved = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_calibration_minimum_images(&rates, &n));
    F2D2_INIT(&session_options);
    session_options.reserved = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_session_create(detector, &session_options, &other));
    options.later[0] = 0;
    options.options.reserved = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_detector_create(model, &options.options, &made));
    options.options.reserved = 0;
    options.options.adapter = "some adapter";
    options.options.engine = "tract";
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_detector_create(model, &options.options, &made));
    options.options.adapter = NULL;
    options.options.background = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_detector_create(model, &options.options, &made));
    options.options.background = 0;
    options.options.cpu_on_loss = 1;
    STATUS(F2D2_UNSUPPORTED_FIELD, f2d2_detector_create(model, &options.options, &made));

    /* A struct or number at an odd address. */
    {
        uint64_t room[32] = {0};
        void *odd = (unsigned char *)room + 1;
        STATUS(F2D2_MISALIGNED, f2d2_session_score(session, (f2d2_frame *)odd, &fine));
        STATUS(F2D2_MISALIGNED, f2d2_session_statistics(session, 0, NULL, 0, (size_t *)odd));
        STATUS(F2D2_MISALIGNED, f2d2_session_statistics(session, 0, (double *)odd, 4, &n));
        STATUS(F2D2_MISALIGNED, f2d2_session_create(detector, NULL, (f2d2_session **)odd));
    }
}

static void case_46_values(void) {
    f2d2_detector_options options;
    f2d2_session_options session_options;
    f2d2_detector *made = NULL;
    f2d2_session *other = NULL;
    f2d2_frame frame = grey(images[0]);
    f2d2_inspection inspection;
    f2d2_stats stats;
    const uint32_t formats[] = {0, 9, 0x80000001u, UINT32_MAX};
    const double rates[] = {0, -0.1, NAN, INFINITY};
    f2d2_error error;
    static char endless[40000];
    double value = 0;
    uint64_t ns = 0;
    size_t needed = 0, i;
    F2D2_INIT(&inspection);
    for (i = 0; i < sizeof formats / sizeof *formats; ++i) {
        frame.format = formats[i];
        STATUS(F2D2_INVALID_FRAME, f2d2_session_score(session, &frame, &inspection));
    }
    F2D2_INIT(&options);
    options.background = 2;
    STATUS(F2D2_INVALID_VALUE, f2d2_detector_create(model, &options, &made));
    F2D2_INIT(&options);
    options.cpu_on_loss = 2;
    STATUS(F2D2_INVALID_VALUE, f2d2_detector_create(model, &options, &made));
    F2D2_INIT(&options);
    options.precision = "f8";
    STATUS(F2D2_INVALID_OPTION, f2d2_detector_create(model, &options, &made));
    options.precision = "\xff";
    STATUS(F2D2_INVALID_TEXT, f2d2_detector_create(model, &options, &made));
    F2D2_INIT(&options);
    options.heat_maps = 2;
    STATUS(F2D2_INVALID_VALUE, f2d2_detector_create(model, &options, &made));
    options.heat_maps = 0;
    options.skip_self_test = 0x80000000u;
    STATUS(F2D2_INVALID_VALUE, f2d2_detector_create(model, &options, &made));
    options.skip_self_test = 0;
    options.log_level = 5;
    STATUS(F2D2_INVALID_VALUE, f2d2_detector_create(model, &options, &made));
    options.log_level = 0;
    options.threads = 1025;
    STATUS(F2D2_INVALID_OPTION, f2d2_detector_create(model, &options, &made));
    options.threads = 1;
    options.steps = 1000000;
    STATUS(F2D2_INVALID_OPTION, f2d2_detector_create(model, &options, &made));
    options.steps = 0;
    options.engine = "quantum";
    STATUS(F2D2_INVALID_OPTION, f2d2_detector_create(model, &options, &made));
    options.engine = "\xff\xfe";
    STATUS(F2D2_INVALID_TEXT, f2d2_detector_create(model, &options, &made));
    memset(endless, 'x', sizeof endless);
    options.engine = endless;
    STATUS(F2D2_INVALID_TEXT, f2d2_detector_create(model, &options, &made));
    options.engine = NULL;
    options.noise_floors = &value;
    options.noise_floor_count = 1;
    STATUS(F2D2_INVALID_OPTION, f2d2_detector_create(model, &options, &made));
    options.noise_floors = NULL;
    STATUS(F2D2_NULL_POINTER, f2d2_detector_create(model, &options, &made));
    CHECK(made == NULL);
    F2D2_INIT(&session_options);
    session_options.log_level = UINT32_MAX;
    STATUS(F2D2_INVALID_VALUE, f2d2_session_create(detector, &session_options, &other));
    F2D2_INIT(&stats);
    STATUS(F2D2_INVALID_VALUE, f2d2_stats_quantile(&stats, 1.5, &ns));
    STATUS(F2D2_INVALID_VALUE, f2d2_stats_quantile(&stats, NAN, &ns));
    (void)score(session, grey(images[0]));
    STATUS(F2D2_INVALID_VALUE, f2d2_session_statistic(session, 0, "nll@2", &value));
    STATUS(F2D2_INVALID_VALUE, f2d2_session_statistic(session, 1, "nll@1", &value));
    STATUS(F2D2_INVALID_VALUE, f2d2_session_statistic_name(session, 0, 64, NULL, 0, &needed));
    STATUS(F2D2_INVALID_VALUE, f2d2_session_statistics(session, SIZE_MAX, NULL, 0, &needed));
    STATUS(F2D2_UNAVAILABLE, f2d2_session_heat_map(session, 0, NULL, 0, &needed, NULL, NULL));
    STATUS(F2D2_LIMIT_EXCEEDED, f2d2_sampler_draw_guided(sampler, SIZE_MAX / 8, 1, 1, 0.1, NULL, 0, &needed));
    for (i = 0; i < sizeof rates / sizeof *rates; ++i)
        STATUS(F2D2_INVALID_OPTION,
               f2d2_sampler_draw_guided(sampler, 1, 1, 1, rates[i], (uint8_t *)endless, sizeof endless, &needed));
    /* The model of this suite has no grad_d. */
    STATUS(F2D2_INVALID_OPTION,
           f2d2_sampler_draw_guided(sampler, 1, 1, 1, 0.1, (uint8_t *)endless, sizeof endless, &needed));
    F2D2_INIT(&error);
    CHECK(f2d2_last_error(&error) == F2D2_OK && strstr(error.message, "grad_d") != NULL);
    STATUS(F2D2_LIMIT_EXCEEDED, f2d2_sampler_draw(sampler, SIZE_MAX / 8, 1, 1, NULL, 0, &needed));
    STATUS(F2D2_INVALID_OPTION, f2d2_sampler_draw(sampler, 1, 1000000, 1, (uint8_t *)endless, sizeof endless, &needed));
}

static void buffers(void) {
    double values[64];
    char text[64];
    size_t needed = 0;
    uint32_t width = 7;
    float map[1] = {7};
    f2d2_session *judge = open_judge();
    (void)score(judge, grey(images[0]));
    memset(values, 0, sizeof values);
    memset(text, 'x', sizeof text);
    STATUS(F2D2_BUFFER_TOO_SMALL, f2d2_session_statistics(judge, 0, values, 1, &needed));
    CHECK(needed > 1 && values[0] == 0);
    STATUS(F2D2_BUFFER_TOO_SMALL, f2d2_session_statistic_name(judge, 0, 0, text, 5, &needed));
    CHECK(needed == sizeof "nll@1" && text[0] == 'x');
    STATUS(F2D2_OK, f2d2_session_statistic_name(judge, 0, 0, text, needed, &needed));
    CHECK(strcmp(text, "nll@1") == 0 && text[sizeof "nll@1"] == 'x');
    STATUS(F2D2_BUFFER_TOO_SMALL, f2d2_session_heat_map(judge, 0, map, 1, &needed, &width, NULL));
    CHECK(needed == PIXELS && map[0] == 7 && width == 7);
    f2d2_session_destroy(judge);
}

static void case_47_handles(void) {
    f2d2_session *gone = NULL, *again = NULL, *first = NULL;
    f2d2_detector *made = NULL;
    f2d2_frame frame = grey(images[0]);
    f2d2_inspection inspection, before;
    int on_stack = 0, i;
    F2D2_INIT(&inspection);
    before = inspection;
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &gone));
    first = gone;
    STATUS(F2D2_OK, f2d2_session_destroy(gone));
    STATUS(F2D2_DESTROYED, f2d2_session_destroy(gone));
    STATUS(F2D2_DESTROYED, f2d2_session_score(gone, &frame, &inspection));
    /* Its place is used again: the old handle stays destroyed. */
    for (i = 0; i < 10000; ++i) {
        STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &again));
        CHECK(again != first);
        STATUS(F2D2_OK, f2d2_session_destroy(again));
    }
    STATUS(F2D2_DESTROYED, f2d2_session_score(first, &frame, &inspection));

    STATUS(F2D2_WRONG_HANDLE, f2d2_session_score((f2d2_session *)detector, &frame, &inspection));
    STATUS(F2D2_WRONG_HANDLE, f2d2_detector_create((f2d2_model *)session, NULL, &made));
    STATUS(F2D2_WRONG_HANDLE, f2d2_model_destroy((f2d2_model *)calibration));
    STATUS(F2D2_WRONG_HANDLE, f2d2_session_score_batch(session, &frame, 1, &inspection, (f2d2_cancel *)sampler));
    STATUS(F2D2_INVALID_HANDLE, f2d2_session_score((f2d2_session *)&on_stack, &frame, &inspection));
    STATUS(F2D2_INVALID_HANDLE, f2d2_session_score((f2d2_session *)images, &frame, &inspection));
    STATUS(F2D2_INVALID_HANDLE, f2d2_session_destroy((f2d2_session *)1));
    STATUS(F2D2_INVALID_HANDLE, f2d2_session_destroy((f2d2_session *)-1));
    /* Another place and another generation than any that was given out. */
    STATUS(F2D2_INVALID_HANDLE, f2d2_session_destroy((f2d2_session *)((size_t)session + ((size_t)1 << 20))));
    STATUS(F2D2_INVALID_HANDLE, f2d2_session_destroy((f2d2_session *)((size_t)session + ((size_t)1 << 44))));
    CHECK(memcmp(&inspection, &before, sizeof before) == 0);
}

struct reentry {
    f2d2_session *session;
    f2d2_status inside;
    int destroy, calls;
};

static void call_again(void *user_data, uint32_t level, const char *message) {
    struct reentry *reentry = (struct reentry *)user_data;
    f2d2_frame frame = grey(images[1]);
    f2d2_inspection inspection;
    (void)level;
    CHECK(message[0] != '\0');
    F2D2_INIT(&inspection);
    reentry->calls += 1;
    if (reentry->destroy)
        reentry->inside = f2d2_session_destroy(reentry->session);
    else
        reentry->inside = f2d2_session_score(reentry->session, &frame, &inspection);
}

/* Destroying in every order, and from inside a callback; calling a session from its own callback. */
static void case_49_order(void) {
    int order[3], i;
    struct reentry reentry = {NULL, F2D2_OK, 0, 0};
    f2d2_session_options options;
    for (order[0] = 0; order[0] < 3; ++order[0])
        for (order[1] = 0; order[1] < 3; ++order[1]) {
            f2d2_model *m = open_model("model.onnx");
            f2d2_detector *d = NULL;
            f2d2_session *s = NULL;
            if (order[0] == order[1]) {
                f2d2_model_destroy(m);
                continue;
            }
            order[2] = 3 - order[0] - order[1];
            STATUS(F2D2_OK, f2d2_detector_create(m, NULL, &d));
            STATUS(F2D2_OK, f2d2_session_create(d, NULL, &s));
            for (i = 0; i < 3; ++i) {
                if (order[i] == 0)
                    STATUS(F2D2_OK, f2d2_model_destroy(m));
                if (order[i] == 1)
                    STATUS(F2D2_OK, f2d2_detector_destroy(d));
                if (order[i] == 2)
                    STATUS(F2D2_OK, f2d2_session_destroy(s));
                else if (i == 0 || order[0] != 2)
                    if (order[1] != 2 || i == 0)
                        CHECK(isfinite(score(s, grey(images[0])).bpd));
            }
        }
    F2D2_INIT(&options);
    options.log = call_again;
    options.log_user_data = &reentry;
    options.log_level = F2D2_LOG_DEBUG;
    STATUS(F2D2_OK, f2d2_session_create(detector, &options, &reentry.session));
    CHECK(isfinite(score(reentry.session, grey(images[0])).bpd));
    CHECK(reentry.calls == 1 && reentry.inside == F2D2_BUSY);
    reentry.destroy = 1;
    CHECK(isfinite(score(reentry.session, grey(images[0])).bpd));
    CHECK(reentry.calls == 2 && reentry.inside == F2D2_OK);
    STATUS(F2D2_DESTROYED, f2d2_session_destroy(reentry.session));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    model = open_model("model.onnx");
    detector = open_detector("model.onnx", 0);
    calibration = calibrate(detector);
    session = open_judge();
    STATUS(F2D2_OK, f2d2_sampler_create(model, NULL, &sampler));
    STATUS(F2D2_OK, f2d2_cancel_create(&cancel));
    STATUS(F2D2_OK, f2d2_threads_create_host(1, &threads));
    case_44_null();
    f2d2_session_destroy(session);
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    case_45_sizes();
    case_46_values();
    buffers();
    case_47_handles();
    case_49_order();
    f2d2_cancel_destroy(cancel);
    f2d2_threads_destroy(threads);
    f2d2_sampler_destroy(sampler);
    f2d2_calibration_destroy(calibration);
    f2d2_session_destroy(session);
    f2d2_detector_destroy(detector);
    f2d2_model_destroy(model);
    return end();
}

/* The way of a program from a model file to verdicts, heat maps and samples; compiled as C and as C++. */
#include "check.h"

static void versions(void) {
    char text[32];
    CHECK(f2d2_version() >= F2D2_VERSION);
    CHECK(F2D2_VERSION == 10000 * F2D2_VERSION_MAJOR + 100 * F2D2_VERSION_MINOR + F2D2_VERSION_PATCH);
    snprintf(text, sizeof text, "%u.%u.%u", f2d2_version() / 10000, f2d2_version() / 100 % 100, f2d2_version() % 100);
    CHECK(strcmp(f2d2_version_string(), text) == 0);
    CHECK(strcmp(f2d2_status_name(F2D2_BUSY), "F2D2_BUSY") == 0);
    CHECK(strcmp(f2d2_status_name(-7), "F2D2_UNKNOWN") == 0);
}

static void models(void) {
    f2d2_model *model = open_model("model.onnx"), *same = NULL;
    f2d2_model_info info, again;
    static unsigned char bytes[1 << 20];
    FILE *file = fopen(path("model.onnx"), "rb");
    size_t size = file != NULL ? fread(bytes, 1, sizeof bytes, file) : 0;
    F2D2_INIT(&info);
    F2D2_INIT(&again);
    STATUS(F2D2_OK, f2d2_model_get_info(model, &info));
    CHECK(info.channels == 1 && info.width == WIDTH && info.height == HEIGHT && info.steps == 2);
    CHECK(info.scores == 1 && info.samples == 1 && info.noise_floors == 1 && info.file_bytes == size);
    CHECK(strlen(info.hash) == 64 && strcmp(info.name, "gaussian pixels") == 0);
    STATUS(F2D2_OK, f2d2_model_open_memory(bytes, size, NULL, &same));
    memset(bytes, 0, sizeof bytes);
    STATUS(F2D2_OK, f2d2_model_get_info(same, &again));
    CHECK(memcmp(&info, &again, sizeof info) == 0);
    f2d2_model_destroy(same);
    f2d2_model_destroy(model);
    if (file != NULL)
        fclose(file);
}

static void engines(void) {
    f2d2_detector *detector = open_detector("model.onnx", 0);
    f2d2_engine_report report;
    F2D2_INIT(&report);
    STATUS(F2D2_OK, f2d2_detector_get_engine(detector, &report));
    CHECK(report.threads == 1 && report.engine[0] != '\0' && report.reason[0] != '\0');
    CHECK(strcmp(report.precision, "f32") == 0);
    STATUS(F2D2_OK, f2d2_detector_self_test(detector));
    STATUS(F2D2_OK, f2d2_detector_warm_up(detector));
    f2d2_detector_destroy(detector);
}

static void verdicts(void) {
    f2d2_session *session = open_judge();
    f2d2_inspection inspection;
    f2d2_stats stats;
    unsigned char black[PIXELS] = {0};
    unsigned flagged = 0;
    uint64_t median = 0, slowest = 0;
    size_t i;
    F2D2_INIT(&stats);
    STATUS(F2D2_UNAVAILABLE, f2d2_stats_quantile(&stats, 0.5, &median));
    for (i = 0; i < 100; ++i) {
        inspection = score(session, grey(images[i]));
        flagged += inspection.verdict == F2D2_VERDICT_ANOMALOUS;
        CHECK(inspection.verdict == F2D2_VERDICT_NORMAL || inspection.verdict == F2D2_VERDICT_ANOMALOUS);
        CHECK((inspection.score > inspection.threshold) == (inspection.verdict == F2D2_VERDICT_ANOMALOUS));
        CHECK(inspection.p_value > 0 && inspection.p_value <= 1 && isfinite(inspection.nll_nats));
        CHECK(fabs(inspection.bpd - inspection.nll_nats / (PIXELS * log(2.0))) < 1e-9);
        CHECK(inspection.steps == 2 && inspection.elapsed_ns > 0 && inspection.engine[0] != '\0');
    }
    CHECK(flagged < 15);
    inspection = score(session, grey(black));
    CHECK(inspection.verdict == F2D2_VERDICT_ANOMALOUS && inspection.p_value < 0.02);
    STATUS(F2D2_OK, f2d2_session_get_stats(session, &stats));
    CHECK(stats.calls == 101 && stats.frames == 101 && stats.normal == 100 - flagged && stats.anomalous == flagged + 1);
    CHECK(stats.invalid == 0 && stats.unjudged == 0 && stats.latency_min_ns <= stats.latency_max_ns);
    STATUS(F2D2_OK, f2d2_stats_quantile(&stats, 0.5, &median));
    STATUS(F2D2_OK, f2d2_stats_quantile(&stats, 1.0, &slowest));
    CHECK(median >= stats.latency_min_ns && median <= slowest && slowest == stats.latency_max_ns);
    f2d2_session_destroy(session);

    session = open_session("model.onnx");
    inspection = score(session, grey(images[0]));
    CHECK(inspection.verdict == F2D2_VERDICT_NONE && isfinite(inspection.bpd));
    CHECK(isnan(inspection.p_value) && isnan(inspection.score) && isnan(inspection.threshold));
    f2d2_session_destroy(session);
}

static void score_vectors(void) {
    f2d2_session *session = open_judge();
    f2d2_inspection inspection = score(session, grey(images[0]));
    double values[64], value = 0;
    float map[PIXELS];
    char name[64];
    size_t needed = 0, size = 0, i;
    uint32_t width = 0, height = 0;
    STATUS(F2D2_OK, f2d2_session_statistics(session, 0, NULL, 0, &needed));
    CHECK(needed > 4 && needed < 64);
    STATUS(F2D2_OK, f2d2_session_statistics(session, 0, values, 64, &needed));
    for (i = 0; i < needed; ++i) {
        STATUS(F2D2_OK, f2d2_session_statistic_name(session, 0, i, NULL, 0, &size));
        STATUS(F2D2_OK, f2d2_session_statistic_name(session, 0, i, name, sizeof name, &size));
        CHECK(size == strlen(name) + 1);
        STATUS(F2D2_OK, f2d2_session_statistic(session, 0, name, &value));
        CHECK(value == values[i]);
    }
    STATUS(F2D2_OK, f2d2_session_statistic(session, 0, "nll@1", &value));
    CHECK(fabs(value * PIXELS - inspection.nll_nats) < 1e-6);
    STATUS(F2D2_OK, f2d2_session_heat_map(session, 0, NULL, 0, &needed, NULL, NULL));
    CHECK(needed == PIXELS);
    STATUS(F2D2_OK, f2d2_session_heat_map(session, 0, map, PIXELS, &needed, &width, &height));
    CHECK(width == WIDTH && height == HEIGHT);
    for (i = 0; i < PIXELS; ++i)
        CHECK(isfinite(map[i]));
    STATUS(F2D2_OK, f2d2_session_reason(session, 0, name, sizeof name, &size));
    CHECK(size == 1 && name[0] == '\0');
    f2d2_session_destroy(session);
}

static void calibrations(void) {
    f2d2_detector *detector = open_detector("model.onnx", 0);
    f2d2_calibration *made = calibrate(detector), *loaded = NULL, *copied = NULL, *collected = NULL;
    f2d2_calibration_info info, again;
    f2d2_calibration_options options;
    f2d2_session *session = NULL;
    static char text[1 << 20];
    size_t size = 0, minimum = 0, i;
    F2D2_INIT(&info);
    F2D2_INIT(&again);
    F2D2_INIT(&options);
    STATUS(F2D2_OK, f2d2_calibration_get_info(made, &info));
    CHECK(info.images == IMAGES && info.alpha == 0.05 && info.delta == 0.05 && info.components >= 1);
    CHECK(isfinite(info.threshold) && info.band_low < info.band_high);
    STATUS(F2D2_OK, f2d2_calibration_save(made, path("c.json")));
    STATUS(F2D2_OK, f2d2_calibration_load(path("c.json"), &loaded));
    STATUS(F2D2_OK, f2d2_calibration_get_info(loaded, &again));
    CHECK(memcmp(&info, &again, sizeof info) == 0);
    STATUS(F2D2_OK, f2d2_calibration_save_memory(made, NULL, 0, &size));
    STATUS(F2D2_OK, f2d2_calibration_save_memory(made, text, sizeof text, &size));
    CHECK(size == strlen(text) + 1 && size > 1000);
    STATUS(F2D2_OK, f2d2_calibration_load_memory(text, size - 1, &copied));

    /* The same images one by one. */
    options.alpha = 0.05;
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    for (i = 0; i < IMAGES; ++i) {
        f2d2_frame frame = grey(images[i]);
        STATUS(F2D2_OK, f2d2_session_collect(session, &frame));
    }
    STATUS(F2D2_OK, f2d2_session_calibrate(session, &options, &collected));
    STATUS(F2D2_OK, f2d2_calibration_get_info(collected, &again));
    CHECK(memcmp(&info, &again, sizeof info) == 0);
    f2d2_calibration_destroy(collected);
    STATUS(F2D2_TOO_FEW_IMAGES, f2d2_session_calibrate(session, &options, &collected));

    STATUS(F2D2_OK, f2d2_calibration_minimum_images(&options, &minimum));
    CHECK(minimum > 20 && minimum <= IMAGES);
    STATUS(F2D2_OK, f2d2_calibration_minimum_images(NULL, &minimum));
    CHECK(minimum == 598);
    f2d2_session_destroy(session);
    f2d2_calibration_destroy(made);
    f2d2_calibration_destroy(loaded);
    f2d2_calibration_destroy(copied);
    f2d2_detector_destroy(detector);
}

static void samples(void) {
    f2d2_model *model = open_model("colour.onnx");
    f2d2_sampler *sampler = NULL;
    f2d2_sampler_options options;
    unsigned char few[2 * 3 * PIXELS], many[5 * 3 * PIXELS];
    size_t needed = 0;
    F2D2_INIT(&options);
    options.threads = 1;
    options.engine = "cpu";
    STATUS(F2D2_OK, f2d2_sampler_create(model, &options, &sampler));
    f2d2_model_destroy(model);
    STATUS(F2D2_OK, f2d2_sampler_draw(sampler, 5, 0, 7, NULL, 0, &needed));
    CHECK(needed == sizeof many);
    STATUS(F2D2_OK, f2d2_sampler_draw(sampler, 5, 0, 7, many, sizeof many, &needed));
    STATUS(F2D2_OK, f2d2_sampler_draw(sampler, 2, 2, 7, few, sizeof few, &needed));
    CHECK(memcmp(few, many, sizeof few) == 0);
    STATUS(F2D2_OK, f2d2_sampler_draw(sampler, 2, 0, 8, few, sizeof few, &needed));
    CHECK(memcmp(few, many, sizeof few) != 0);
    f2d2_sampler_destroy(sampler);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    versions();
    models();
    engines();
    verdicts();
    score_vectors();
    calibrations();
    samples();
    return end();
}

/* One evaluation of a real network, network.onnx, for a frame on two threads, and one for two frames: for checkers under
   which each takes seconds. */
#include "check.h"

int main(int argc, char **argv) {
    const double floor = 1;
    f2d2_engine_report report;
    f2d2_detector_options options;
    f2d2_model *model;
    f2d2_detector *detector = NULL;
    f2d2_session *session = NULL;
    f2d2_frame frames[2];
    f2d2_inspection inspections[2];
    begin(argc, argv);
    F2D2_INIT(&options);
    F2D2_INIT(&report);
    F2D2_INIT(&inspections[0]);
    F2D2_INIT(&inspections[1]);
    frames[0] = grey(images[0]);
    frames[1] = grey(images[1]);
    options.threads = 2;
    options.steps = 1;
    options.noise_floors = &floor;
    options.noise_floor_count = 1;
    options.skip_self_test = 1;
    options.engine = "cpu";
    model = open_model("network.onnx");
    STATUS(F2D2_OK, f2d2_detector_create(model, &options, &detector));
    f2d2_model_destroy(model);
    STATUS(F2D2_OK, f2d2_detector_get_engine(detector, &report));
    STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
    CHECK(isfinite(score(session, frames[0]).bpd));
    STATUS(F2D2_OK, f2d2_session_score_batch(session, frames, 2, inspections, NULL));
    CHECK(isfinite(inspections[0].bpd) && inspections[0].bpd != inspections[1].bpd);
    f2d2_session_destroy(session);
    f2d2_detector_destroy(detector);
    printf("%s\n", report.reason);
    return end();
}

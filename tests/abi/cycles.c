/* Creating, scoring and destroying, over and over: COUNT times a session, and every tenth time all of it. */
#include "check.h"

int main(int argc, char **argv) {
    long count = argc > 2 ? atol(argv[2]) : 0, i;
    f2d2_detector *detector;
    begin(argc, argv);
    CHECK(count > 0);
    detector = open_detector("model.onnx", 0);
    for (i = 0; i < count; ++i) {
        f2d2_session *session = NULL;
        f2d2_frame frame = grey(images[i % IMAGES]);
        f2d2_inspection inspection;
        F2D2_INIT(&inspection);
        if (i % 10 == 0) {
            f2d2_detector_destroy(detector);
            detector = open_detector("model.onnx", 1);
        }
        STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
        STATUS(F2D2_OK, f2d2_session_score(session, &frame, &inspection));
        frame.data = NULL;
        STATUS(F2D2_INVALID_FRAME, f2d2_session_score(session, &frame, &inspection));
        f2d2_session_destroy(session);
    }
    f2d2_detector_destroy(detector);
    return end();
}

/* Creating, scoring and destroying, over and over: COUNT sessions, and after every EACH of them all the rest anew. */
#include "check.h"

/* Memory of the process that is resident, in KiB. */
static long resident(void) {
    char line[256];
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL && sscanf(line, "%*s %ld", &pages) == 1);
    if (file != NULL)
        fclose(file);
    return pages * 4;
}

int main(int argc, char **argv) {
    const long count = argc > 2 ? atol(argv[2]) : 0, each = argc > 3 ? atol(argv[3]) : 1;
    long before = 0, i;
    f2d2_detector *detector;
    begin(argc, argv);
    CHECK(count > 0);
    detector = open_detector("model.onnx", 0);
    for (i = 0; i < count; ++i) {
        f2d2_session *session = NULL;
        f2d2_frame frame = grey(images[i % IMAGES]);
        f2d2_inspection inspection;
        F2D2_INIT(&inspection);
        if (i == count / 5)
            before = resident();
        if (i % each == each - 1) {
            f2d2_detector_destroy(detector);
            detector = open_detector("model.onnx", 1);
        }
        STATUS(F2D2_OK, f2d2_session_create(detector, NULL, &session));
        STATUS(F2D2_OK, f2d2_session_score(session, &frame, &inspection));
        frame.data = NULL;
        STATUS(F2D2_INVALID_FRAME, f2d2_session_score(session, &frame, &inspection));
        f2d2_session_destroy(session);
    }
    /* 8000 cycles that lost 1 KiB each would be twice as much. */
    CHECK(resident() - before < 4096);
    f2d2_detector_destroy(detector);
    return end();
}

// A callback that throws is forbidden: the process ends with a message, and no frame of this library is skipped.
#include "check.h"

static void throwing(void *, uint32_t, const char *) {
    throw 1;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    f2d2_detector *detector = open_detector("model.onnx", 0);
    f2d2_session *session = nullptr;
    f2d2_session_options options;
    F2D2_INIT(&options);
    options.log = throwing;
    options.log_level = F2D2_LOG_DEBUG;
    STATUS(F2D2_OK, f2d2_session_create(detector, &options, &session));
    printf("about to throw\n");
    fflush(stdout);
    try {
        (void)score(session, grey(images[0]));
        printf("went on\n");
    } catch (...) {
        printf("came through\n");
    }
    return 0;
}

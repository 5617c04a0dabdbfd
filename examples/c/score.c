/* Judges one frame: score MODEL CALIBRATION */
#include <f2d2.h>
#include <stdio.h>

int main(int argc, char **argv) {
    static const unsigned char pixels[480 * 640 * 3]; /* a camera's buffer; here a black frame */
    static const char *const verdicts[] = {"none", "normal", "anomalous", "invalid"};
    f2d2_model *model = NULL;
    f2d2_calibration *calibration = NULL;
    f2d2_detector *detector = NULL;
    f2d2_session *session = NULL;
    f2d2_detector_options options;
    f2d2_frame frame;
    f2d2_inspection inspection;
    f2d2_error error;

    F2D2_INIT(&options), F2D2_INIT(&frame), F2D2_INIT(&inspection), F2D2_INIT(&error);
    frame.format = F2D2_FORMAT_BGR8, frame.width = 640, frame.height = 480;
    frame.data = pixels, frame.size = sizeof pixels;

    f2d2_status status = f2d2_model_open(argc > 1 ? argv[1] : "", NULL, &model);
    if (!status) status = f2d2_calibration_load(argc > 2 ? argv[2] : "", &calibration);
    options.calibration = calibration;
    if (!status) status = f2d2_detector_create(model, &options, &detector);
    if (!status) status = f2d2_session_create(detector, NULL, &session);
    if (!status) status = f2d2_session_score(session, &frame, &inspection);
    if (!status) printf("%s, p = %.4f\n", verdicts[inspection.verdict], inspection.p_value);
    else if (!f2d2_last_error(&error)) fprintf(stderr, "%s (%s)\n", error.message, error.hint);

    f2d2_session_destroy(session); /* in any order; NULL is fine */
    f2d2_detector_destroy(detector);
    f2d2_calibration_destroy(calibration);
    f2d2_model_destroy(model);
    return status != F2D2_OK;
}

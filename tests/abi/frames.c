/* Frames of every kind, good and bad: cases 31 to 43. */
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

static f2d2_session *judge, *grey_session, *colour_session;

/* The description is refused, and what was to be filled in is untouched. */
static void refused(f2d2_frame frame) {
    f2d2_inspection inspection, before;
    F2D2_INIT(&inspection);
    inspection.verdict = 77;
    before = inspection;
    STATUS(F2D2_INVALID_FRAME, f2d2_session_score(grey_session, &frame, &inspection));
    CHECK(memcmp(&inspection, &before, sizeof before) == 0);
}

/* The description is fine and the pixels are not: the verdict is "invalid", never "normal". */
static void not_judged(f2d2_frame frame) {
    f2d2_inspection inspection = score(judge, frame);
    char reason[256] = "";
    size_t needed = 0;
    CHECK(inspection.verdict == F2D2_VERDICT_INVALID);
    CHECK(isnan(inspection.score) && isnan(inspection.p_value) && isnan(inspection.bpd));
    STATUS(F2D2_OK, f2d2_session_reason(judge, 0, reason, sizeof reason, &needed));
    CHECK(needed > 8);
    STATUS(F2D2_UNAVAILABLE, f2d2_session_statistics(judge, 0, NULL, 0, &needed));
    STATUS(F2D2_UNAVAILABLE, f2d2_session_heat_map(judge, 0, NULL, 0, &needed, NULL, NULL));
}

static double bpd(f2d2_session *session, f2d2_frame frame) {
    return score(session, frame).bpd;
}

static void case_31_no_data(void) {
    f2d2_frame frame = grey(NULL);
    refused(frame);
    frame.size = 0;
    refused(frame);
    frame = grey(images[0]);
    frame.size = 0;
    refused(frame);
}

static void case_32_sides(void) {
    const uint32_t sides[] = {0, 65536, (uint32_t)-1, 16385};
    f2d2_frame frame;
    size_t i;
    for (i = 0; i < sizeof sides / sizeof *sides; ++i) {
        frame = grey(images[0]);
        frame.width = sides[i];
        refused(frame);
        frame = grey(images[0]);
        frame.height = sides[i];
        refused(frame);
    }
    frame = grey(images[0]);
    frame.width = frame.height = 16384;
    frame.format = F2D2_FORMAT_RGB_F32;
    refused(frame);
    frame.stride = UINT64_MAX;
    frame.size = UINT64_MAX;
    refused(frame);
    frame = grey(images[0]);
    frame.width = frame.height = 1;
    CHECK(isfinite(bpd(grey_session, frame)));
}

static void case_33_strides(void) {
    unsigned char padded[HEIGHT][WIDTH + 5], sixteen[HEIGHT][2 * WIDTH + 1];
    const double packed = bpd(grey_session, grey(images[0]));
    f2d2_frame frame = grey(images[0]);
    int padding, row, column;
    frame.stride = WIDTH - 1;
    refused(frame);
    frame.stride = (uint64_t)0 - WIDTH;
    refused(frame);
    frame.stride = (uint64_t)1 << 62;
    refused(frame);
    for (padding = 0; padding < 256; padding += 51) {
        memset(padded, padding, sizeof padded);
        for (row = 0; row < HEIGHT; ++row)
            memcpy(padded[row], images[0] + row * WIDTH, WIDTH);
        frame = grey(padded);
        frame.stride = WIDTH + 5;
        frame.size = sizeof padded - 5;
        CHECK(bpd(grey_session, frame) == packed);
        frame.size -= 1;
        refused(frame);
    }
    /* 16 bits per pixel, rows at odd addresses; the high byte alone is the 8-bit value times 256. */
    for (row = 0; row < HEIGHT; ++row)
        for (column = 0; column < WIDTH; ++column) {
            const uint16_t value = (uint16_t)(images[0][row * WIDTH + column] * 257);
            memcpy(&sixteen[row][2 * column], &value, sizeof value);
        }
    frame = grey(sixteen);
    frame.format = F2D2_FORMAT_GRAY16;
    frame.stride = 2 * WIDTH + 1;
    frame.size = sizeof sixteen;
    CHECK(bpd(grey_session, frame) == packed);
}

static void case_34_alignment_and_ends(void) {
    const double packed = bpd(grey_session, grey(images[0]));
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *guarded, *end;
    unsigned char odd[1 + PIXELS * sizeof(float)];
    f2d2_frame frame;
    int i;
    for (i = 0; i < PIXELS; ++i) {
        const float value = (float)images[0][i] / 255.0f;
        memcpy(odd + 1 + (size_t)i * sizeof value, &value, sizeof value);
    }
    frame = grey(odd + 1);
    frame.format = F2D2_FORMAT_GRAY_F32;
    frame.size = PIXELS * sizeof(float);
    CHECK(bpd(grey_session, frame) == packed);

    /* The last pixel ends where memory ends; the first row begins where it begins. */
    guarded = (unsigned char *)mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(guarded != MAP_FAILED && mprotect(guarded + page, page, PROT_READ | PROT_WRITE) == 0);
    end = guarded + 2 * page;
    memcpy(end - PIXELS, images[0], PIXELS);
    CHECK(bpd(grey_session, grey(end - PIXELS)) == packed);
    memcpy(guarded + page, images[0], PIXELS);
    CHECK(bpd(grey_session, grey(guarded + page)) == packed);
    frame = grey(end - PIXELS);
    frame.size = PIXELS - 1;
    refused(frame);
    munmap(guarded, 3 * page);
}

/* What a wrong declaration does cannot be seen; the right one must give the same score in every order and depth. */
static void case_35_channels_and_depths(void) {
    unsigned char pixels[4][PIXELS * 4];
    uint16_t deep[PIXELS], twelve[PIXELS], swapped[PIXELS];
    const double packed = bpd(grey_session, grey(images[0]));
    double rgb;
    f2d2_frame frame;
    int i;
    for (i = 0; i < PIXELS; ++i) {
        const unsigned char r = images[0][i], g = images[1][i], b = images[2][i];
        const unsigned char orders[4][4] = {{r, g, b, 0}, {b, g, r, 0}, {r, g, b, 99}, {b, g, r, 99}};
        int order;
        for (order = 0; order < 4; ++order)
            memcpy(pixels[order] + (order < 2 ? 3 : 4) * i, orders[order], order < 2 ? 3 : 4);
        deep[i] = (uint16_t)(images[0][i] * 257);
        twelve[i] = (uint16_t)(images[0][i] * 16);
        swapped[i] = (uint16_t)(images[0][i] << 8);
        swapped[i] = (uint16_t)(swapped[i] >> 8 | swapped[i] << 8);
    }
    frame = grey(pixels[0]);
    frame.format = F2D2_FORMAT_RGB8;
    frame.size = 3 * PIXELS;
    rgb = bpd(colour_session, frame);
    frame.format = F2D2_FORMAT_BGR8;
    CHECK(bpd(colour_session, frame) != rgb);
    frame.data = pixels[1];
    CHECK(bpd(colour_session, frame) == rgb);
    frame.size = 4 * PIXELS;
    frame.format = F2D2_FORMAT_RGBA8;
    frame.data = pixels[2];
    CHECK(bpd(colour_session, frame) == rgb);
    frame.format = F2D2_FORMAT_BGRA8;
    frame.data = pixels[3];
    CHECK(bpd(colour_session, frame) == rgb);
    frame.format = F2D2_FORMAT_GRAY16;
    frame.size = 2 * PIXELS;
    frame.data = deep;
    CHECK(bpd(grey_session, frame) == packed);
    frame.data = twelve;
    CHECK(bpd(grey_session, frame) != packed);
    CHECK(score(judge, frame).verdict == F2D2_VERDICT_ANOMALOUS);
    frame.data = swapped;
    CHECK(bpd(grey_session, frame) != packed);
}

static void case_36_simple_pictures(void) {
    unsigned char picture[PIXELS];
    int i;
    memset(picture, 0, sizeof picture);
    CHECK(score(judge, grey(picture)).verdict == F2D2_VERDICT_ANOMALOUS);
    memset(picture, 255, sizeof picture);
    CHECK(score(judge, grey(picture)).verdict == F2D2_VERDICT_ANOMALOUS);
    memset(picture, 128, sizeof picture);
    CHECK(score(judge, grey(picture)).verdict == F2D2_VERDICT_ANOMALOUS);
    for (i = 0; i < PIXELS; ++i)
        picture[i] = (i + i / WIDTH) % 2 ? 255 : 0;
    CHECK(score(judge, grey(picture)).verdict == F2D2_VERDICT_ANOMALOUS);
    memcpy(picture, images[0], sizeof picture);
    /* One of 48 pixels need not be anomalous, but must be stranger than none. */
    picture[PIXELS / 2] = 255;
    CHECK(score(judge, grey(picture)).score > score(judge, grey(images[0])).score);
}

/* Bytes of 0 and 1 are nearly black; nobody guesses that they were meant as 0 to 255. */
static void case_37_tiny_bytes(void) {
    unsigned char ones[PIXELS], scaled[PIXELS];
    int i;
    for (i = 0; i < PIXELS; ++i) {
        ones[i] = images[0][i] > 128;
        scaled[i] = ones[i] ? 255 : 0;
    }
    CHECK(bpd(judge, grey(ones)) != bpd(judge, grey(scaled)));
    CHECK(score(judge, grey(ones)).verdict == F2D2_VERDICT_ANOMALOUS);
}

static f2d2_frame floats(const float *values) {
    f2d2_frame frame = grey(values);
    frame.format = F2D2_FORMAT_GRAY_F32;
    frame.size = PIXELS * sizeof *values;
    return frame;
}

static void case_38_and_39_floats(void) {
    const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 1.001f, -0.001f, 255.0f};
    float values[PIXELS];
    double plain;
    size_t i;
    for (i = 0; i < PIXELS; ++i)
        values[i] = (float)images[0][i] / 255.0f;
    values[3] = 0.0f;
    plain = bpd(judge, floats(values));
    for (i = 0; i < sizeof bad / sizeof *bad; ++i) {
        values[3] = bad[i];
        not_judged(floats(values));
    }
    values[3] = -0.0f;
    CHECK(bpd(judge, floats(values)) == plain);
    values[3] = 1e-42f;
    CHECK(bpd(judge, floats(values)) == plain);
    for (i = 0; i < PIXELS; ++i)
        values[i] = (float)images[0][i];
    not_judged(floats(values));
}

static void case_40_regions(void) {
    static unsigned char large[20 * 30];
    const uint32_t wrong[][4] = {{0, 0, 0, 1}, {1, 0, 0, 0}, {0, 0, 31, 1}, {30, 0, 1, 1},
                                 {0, 19, 1, 2}, {(uint32_t)-1, 0, 2, 1}, {2, 2, (uint32_t)-1, 4}};
    f2d2_frame frame = grey(large);
    size_t i;
    int row;
    for (row = 0; row < HEIGHT; ++row)
        memcpy(large + (7 + row) * 30 + 11, images[0] + row * WIDTH, WIDTH);
    frame.width = 30;
    frame.height = 20;
    frame.size = sizeof large;
    for (i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        frame.roi_x = wrong[i][0];
        frame.roi_y = wrong[i][1];
        frame.roi_width = wrong[i][2];
        frame.roi_height = wrong[i][3];
        refused(frame);
    }
    frame.roi_x = 11;
    frame.roi_y = 7;
    frame.roi_width = WIDTH;
    frame.roi_height = HEIGHT;
    CHECK(bpd(grey_session, frame) == bpd(grey_session, grey(images[0])));
    /* Another size in every call. */
    for (i = 1; i < 20; ++i) {
        frame = grey(large);
        frame.width = (uint32_t)(31 - i);
        frame.height = (uint32_t)i;
        frame.size = sizeof large;
        CHECK(isfinite(bpd(grey_session, frame)));
    }
}

static void case_42_batches(void) {
    f2d2_frame frames[257];
    f2d2_inspection inspections[257], single;
    unsigned char large[40 * 50];
    char reason[256];
    size_t needed = 0, i;
    for (i = 0; i < 257; ++i) {
        frames[i] = grey(images[i]);
        F2D2_INIT(&inspections[i]);
    }
    memset(large, 90, sizeof large);
    STATUS(F2D2_OK, f2d2_session_score_batch(grey_session, frames, 0, inspections, NULL));
    STATUS(F2D2_OK, f2d2_session_score_batch(grey_session, NULL, 0, NULL, NULL));
    STATUS(F2D2_LIMIT_EXCEEDED, f2d2_session_score_batch(grey_session, frames, 257, inspections, NULL));
    CHECK(inspections[0].verdict == 0 && inspections[0].steps == 0);
    STATUS(F2D2_OK, f2d2_session_score_batch(grey_session, frames, 256, inspections, NULL));
    for (i = 0; i < 256; ++i) {
        single = score(grey_session, frames[i]);
        CHECK(single.bpd == inspections[i].bpd && single.nll_nats == inspections[i].nll_nats);
    }
    frames[1].data = large;
    frames[1].width = 50;
    frames[1].height = 40;
    frames[1].size = sizeof large;
    frames[2].data = NULL;
    frames[3].format = 99;
    STATUS(F2D2_OK, f2d2_session_score_batch(judge, frames, 5, inspections, NULL));
    for (i = 0; i < 5; ++i)
        CHECK((inspections[i].verdict == F2D2_VERDICT_INVALID) == (i == 2 || i == 3));
    CHECK(inspections[0].bpd == bpd(grey_session, frames[0]) && inspections[1].bpd == bpd(grey_session, frames[1]));
    CHECK(inspections[4].bpd == bpd(grey_session, frames[4]));
    STATUS(F2D2_OK, f2d2_session_reason(judge, 3, reason, sizeof reason, &needed));
    CHECK(strcmp(reason, "frame format is 99, need 1 to 8") == 0);
    STATUS(F2D2_UNAVAILABLE, f2d2_session_statistics(judge, 2, NULL, 0, &needed));
    STATUS(F2D2_INVALID_VALUE, f2d2_session_reason(judge, 5, reason, sizeof reason, &needed));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    judge = open_judge();
    grey_session = open_session("model.onnx");
    colour_session = open_session("colour.onnx");
    case_31_no_data();
    case_32_sides();
    case_33_strides();
    case_34_alignment_and_ends();
    case_35_channels_and_depths();
    case_36_simple_pictures();
    case_37_tiny_bytes();
    case_38_and_39_floats();
    case_40_regions();
    case_42_batches();
    f2d2_session_destroy(judge);
    f2d2_session_destroy(grey_session);
    f2d2_session_destroy(colour_session);
    return end();
}

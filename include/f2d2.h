/*
 * f2d2: real-time, calibrated image anomaly detection.
 *
 * Open a model, put it on a detector, give every thread a session, score frames:
 *
 *     f2d2_model *model = NULL;
 *     f2d2_detector *detector = NULL;
 *     f2d2_session *session = NULL;
 *     f2d2_frame frame;
 *     f2d2_inspection inspection;
 *
 *     F2D2_INIT(&frame);
 *     F2D2_INIT(&inspection);
 *     frame.format = F2D2_FORMAT_BGR8;
 *     frame.data = pixels;
 *     frame.size = size;
 *     frame.width = 640;
 *     frame.height = 480;
 *     if (f2d2_model_open("model.onnx", NULL, &model) == F2D2_OK
 *         && f2d2_detector_create(model, NULL, &detector) == F2D2_OK
 *         && f2d2_session_create(detector, NULL, &session) == F2D2_OK
 *         && f2d2_session_score(session, &frame, &inspection) == F2D2_OK)
 *         printf("%f bits per dimension\n", inspection.bpd);
 *     f2d2_session_destroy(session);
 *     f2d2_detector_destroy(detector);
 *     f2d2_model_destroy(model);
 *
 * README.md beside this file says what holds for all functions: statuses, ownership, threads, versions.
 *
 * This file is generated from bindings/c; change it there.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef F2D2_H
#define F2D2_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** Marks functions whose status must be looked at. */
#if defined(__GNUC__)
#define F2D2_MUST_USE __attribute__((warn_unused_result))
#else
#define F2D2_MUST_USE
#endif

/** Prepares the struct that `pointer` points to: all zero, which is the default of every field, and its size. */
#define F2D2_INIT(pointer) \
    (memset((pointer), 0, sizeof *(pointer)), (void)((pointer)->struct_size = (uint32_t)sizeof *(pointer)))

/**
 * Major version of the header, and number in the SONAME. It changes when a compiled program would break.
 */
#define F2D2_VERSION_MAJOR 0

/**
 * Minor version of the header. It grows when functions, constants or fields are added.
 */
#define F2D2_VERSION_MINOR 1

/**
 * Patch version of the header. It grows when nothing of the interface changes.
 */
#define F2D2_VERSION_PATCH 0

/**
 * The header's version as one number, as `f2d2_version` gives it for the library.
 */
#define F2D2_VERSION 100

/**
 * Something failed.
 */
#define F2D2_LOG_ERROR 1

/**
 * A frame could not be judged or was left out.
 */
#define F2D2_LOG_WARNING 2

/**
 * What was chosen, and what is done. The default.
 */
#define F2D2_LOG_INFO 3

/**
 * Every frame.
 */
#define F2D2_LOG_DEBUG 4

/**
 * One byte per pixel, 0 black to 255 white.
 */
#define F2D2_FORMAT_GRAY8 1

/**
 * One 16-bit number per pixel in the machine's byte order, 0 black to 65535 white.
 */
#define F2D2_FORMAT_GRAY16 2

/**
 * Red, green, blue bytes.
 */
#define F2D2_FORMAT_RGB8 3

/**
 * Blue, green, red bytes, as OpenCV has them.
 */
#define F2D2_FORMAT_BGR8 4

/**
 * Red, green, blue, alpha bytes; alpha is ignored.
 */
#define F2D2_FORMAT_RGBA8 5

/**
 * Blue, green, red, alpha bytes; alpha is ignored.
 */
#define F2D2_FORMAT_BGRA8 6

/**
 * One float per pixel, 0 black to 1 white; a frame with any other value, or NaN, is not judged.
 */
#define F2D2_FORMAT_GRAY_F32 7

/**
 * Red, green, blue as floats, each 0 to 1; a frame with any other value, or NaN, is not judged.
 */
#define F2D2_FORMAT_RGB_F32 8

/**
 * There is no calibration to judge by.
 */
#define F2D2_VERDICT_NONE 0

/**
 * Not unlike the normal images, at the calibrated false-alarm rate.
 */
#define F2D2_VERDICT_NORMAL 1

/**
 * Unlike the normal images.
 */
#define F2D2_VERDICT_ANOMALOUS 2

/**
 * The frame or its score cannot be judged; f2d2_session_reason says why. Never to be treated as normal.
 */
#define F2D2_VERDICT_INVALID 3

/**
 * Number of buckets of a latency histogram.
 */
#define F2D2_LATENCY_BUCKETS 128

/**
 * What normal images score, with a threshold. Immutable; any number of threads may use it.
 */
typedef struct f2d2_calibration f2d2_calibration;

/**
 * A flag that long calls look at between frames. Any thread may set it.
 */
typedef struct f2d2_cancel f2d2_cancel;

/**
 * A model on an engine, with a calibration to judge by or without. Immutable; any number of threads may use it.
 */
typedef struct f2d2_detector f2d2_detector;

/**
 * A model that was read and checked, and not yet put on an engine. Immutable; any number of threads may use it.
 */
typedef struct f2d2_model f2d2_model;

/**
 * Draws images from a model that was trained to sample. Immutable; any number of threads may use it.
 */
typedef struct f2d2_sampler f2d2_sampler;

/**
 * One thread's use of a detector. Cheap; it holds the results of the last call. A second call at the same time gets
 * F2D2_BUSY.
 */
typedef struct f2d2_session f2d2_session;

/**
 * Threads that any number of detectors and samplers may share. Immutable; any number of threads may use it.
 */
typedef struct f2d2_threads f2d2_threads;

/**
 * What one thread of the host has to do. Any thread may take it, once.
 */
typedef struct f2d2_work f2d2_work;

/**
 * What a function returns: F2D2_OK, or the reason why it did nothing.
 */
typedef int32_t f2d2_status;

/**
 * The last failure on this thread.
 */
typedef struct f2d2_error {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Status of the last failed call of this thread; F2D2_OK if none failed.
     */
    f2d2_status status;
    /**
     * What was got and what was needed.
     */
    const char *message;
    /**
     * The cause further down, such as the operating system's message; empty if there is none.
     */
    const char *source;
    /**
     * What to do about it; may be empty.
     */
    const char *hint;
    /**
     * The function that failed; empty if none did.
     */
    const char *function;
} f2d2_error;

/**
 * What a model file may ask for. Zero is the default of each.
 */
typedef struct f2d2_limits {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Bytes of the file. Default 2 GiB.
     */
    uint64_t file_bytes;
    /**
     * Nodes of the graph. Default 50 000.
     */
    uint64_t nodes;
    /**
     * Constant tensors of the graph. Default 20 000.
     */
    uint64_t initializers;
    /**
     * Dimensions of one tensor. Default 8.
     */
    uint64_t rank;
    /**
     * Length of one dimension. Default 1 048 576.
     */
    uint64_t dimension;
    /**
     * Bytes of one tensor. Default 1 GiB.
     */
    uint64_t tensor_bytes;
    /**
     * Bytes of one name. Default 4096.
     */
    uint64_t name_bytes;
    /**
     * Values of one image, channels times height times width. Default 16 777 216.
     */
    uint64_t image_values;
} f2d2_limits;

/**
 * Gives the next bytes of a model.
 *
 * It must return: no exception, no longjmp.
 *
 * @param user_data what was given along with the callback.
 * @param buffer where the bytes go.
 * @param capacity the most that may be written, at least 1.
 * @param[out] count how many were written; 0 at the end of the model.
 * Returns 0, or any other number to give up; opening then fails with F2D2_CALLBACK_FAILED.
 */
typedef int32_t (*f2d2_read_callback)(void *user_data, void *buffer, size_t capacity, size_t *count);

/**
 * What a model says about itself.
 */
typedef struct f2d2_model_info {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Channels of the model's images, 1 (grey) or 3 (red, green, blue).
     */
    uint32_t channels;
    /**
     * Rows of the model's images.
     */
    uint32_t height;
    /**
     * Columns of the model's images.
     */
    uint32_t width;
    /**
     * Recommended number of network evaluations per noise floor.
     */
    uint32_t steps;
    /**
     * Number of recommended noise floors.
     */
    uint32_t noise_floors;
    /**
     * 1 if it was trained to score, else 0.
     */
    uint32_t scores;
    /**
     * 1 if it was trained to sample, else 0.
     */
    uint32_t samples;
    /**
     * Size of the file in bytes.
     */
    uint64_t file_bytes;
    /**
     * SHA-256 of the file, lower-case hexadecimal, with a NUL.
     */
    char hash[72];
    /**
     * A name for people, UTF-8, with a NUL; cut if it is longer.
     */
    char name[128];
    /**
     * Licence of the weights, UTF-8, with a NUL; cut if it is longer.
     */
    char licence[64];
    /**
     * 1 if its samples can be guided, else 0; see f2d2_sampler_draw_guided.
     */
    uint32_t guides;
    /**
     * Zero.
     */
    uint32_t reserved;
} f2d2_model_info;

/**
 * What a calibration promises and what it was made from.
 */
typedef struct f2d2_calibration_info {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Number of Gaussians in the density of score vectors.
     */
    uint32_t components;
    /**
     * Images that it was made from.
     */
    uint64_t images;
    /**
     * Highest share of normal images that may be called anomalous.
     */
    double alpha;
    /**
     * Probability that it is exceeded after all.
     */
    double delta;
    /**
     * Scores above it are anomalous.
     */
    double threshold;
    /**
     * Lower end of the central 95 % interval of the true false-alarm rate.
     */
    double band_low;
    /**
     * Upper end of it.
     */
    double band_high;
} f2d2_calibration_info;

/**
 * What a calibration shall promise. Zero is the default of each.
 */
typedef struct f2d2_calibration_options {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Highest share of normal images that may be called anomalous, between 0 and 1. Default 0.01.
     */
    double alpha;
    /**
     * Probability that an unlucky choice of calibration images breaks that, between 0 and 1. Default 0.05.
     */
    double delta;
    /**
     * Seed of the split of the images and of the fit.
     */
    uint64_t seed;
} f2d2_calibration_options;

/**
 * Receives a message.
 *
 * It is called during a call on the object that it was given to, on the thread of that call. It may call this library
 * but not the session that is at work, which answers F2D2_BUSY. It may destroy any handle. It must return: no
 * exception, no longjmp.
 *
 * @param user_data what was given along with the callback.
 * @param level F2D2_LOG_ERROR to F2D2_LOG_DEBUG.
 * @param message UTF-8 text, valid during the call.
 */
typedef void (*f2d2_log_callback)(void *user_data, uint32_t level, const char *message);

/**
 * How a detector is set up. Zero is the default of each.
 */
typedef struct f2d2_detector_options {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Images evaluated side by side, at most 1024; 0 is one per core.
     */
    uint32_t threads;
    /**
     * Network evaluations per noise floor; 0 takes the model's recommendation.
     */
    uint32_t steps;
    /**
     * 1: sessions can give heat maps.
     */
    uint32_t heat_maps;
    /**
     * 1: the engine is not checked against the model's golden vectors.
     */
    uint32_t skip_self_test;
    /**
     * Least important level that `log` gets, F2D2_LOG_ERROR to F2D2_LOG_DEBUG; 0 is F2D2_LOG_INFO.
     */
    uint32_t log_level;
    /**
     * Number of `noise_floors`; 0 takes the model's recommendation.
     */
    uint32_t noise_floor_count;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Noise floors, each in (0, 1], each once. Read during the call only.
     */
    const double *noise_floors;
    /**
     * Name of the engine, "auto", "cpu", "gpu" or one of the names that a report gives; NULL is "auto".
     */
    const char *engine;
    /**
     * Graphics adapter to use, by its PCI bus id or a part of its name; NULL for any. F2D2_UNSUPPORTED_FIELD with
     * an engine on the CPU.
     */
    const char *adapter;
    /**
     * What to judge by; NULL for no verdicts. The detector keeps its own copy.
     */
    const struct f2d2_calibration *calibration;
    /**
     * Receives messages about creating and calibrating; NULL for none. It must work until the detector is destroyed
     * and the calls on it have returned; the same holds for detectors made of it with f2d2_detector_calibrated.
     */
    f2d2_log_callback log;
    /**
     * Passed to `log`.
     */
    void *log_user_data;
    /**
     * Threads to use in place of `threads` ones, which is 0 then; NULL for those. The detector keeps them as long as
     * needed.
     */
    const struct f2d2_threads *pool;
    /**
     * Number format, "f32" or "f16"; NULL is "f32". With "f16" a GPU keeps weights and activations in 16 bits, a CPU
     * weights; creating fails unless the results agree. A report says what is used: "tract" knows "f32" only.
     */
    const char *precision;
    /**
     * 1: the CPU serves while the GPU compiles; creating does not wait for that, destroying does.
     * F2D2_UNSUPPORTED_FIELD with an engine on the CPU.
     */
    uint32_t background;
    /**
     * 1: when the GPU is lost for good, the CPU takes over; 0: frames are F2D2_VERDICT_INVALID then.
     * F2D2_UNSUPPORTED_FIELD with an engine on the CPU.
     */
    uint32_t cpu_on_loss;
} f2d2_detector_options;

/**
 * Which engine a detector runs on, and why.
 */
typedef struct f2d2_engine_report {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Threads that evaluate images side by side.
     */
    uint32_t threads;
    /**
     * Name of the engine, with a NUL.
     */
    char engine[16];
    /**
     * Number format of the convolutions, with a NUL.
     */
    char precision[16];
    /**
     * Why this engine, UTF-8, with a NUL; cut if it is longer.
     */
    char reason[256];
} f2d2_engine_report;

/**
 * Pixels of the caller. They are read during the call only, and must not change during it.
 */
typedef struct f2d2_frame {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * F2D2_FORMAT_GRAY8 to F2D2_FORMAT_RGB_F32.
     */
    uint32_t format;
    /**
     * First byte of the first row. Any alignment.
     */
    const void *data;
    /**
     * Bytes that may be read from `data` on. The last row may end without padding.
     */
    uint64_t size;
    /**
     * Bytes from the beginning of one row to that of the next; 0 if rows follow each other without padding.
     */
    uint64_t stride;
    /**
     * Columns, 1 to 16384.
     */
    uint32_t width;
    /**
     * Rows, 1 to 16384.
     */
    uint32_t height;
    /**
     * First column of the region of interest.
     */
    uint32_t roi_x;
    /**
     * First row of the region of interest.
     */
    uint32_t roi_y;
    /**
     * Columns of the region of interest. All four zero: the whole frame.
     */
    uint32_t roi_width;
    /**
     * Rows of the region of interest.
     */
    uint32_t roi_height;
} f2d2_frame;

/**
 * What a session did since it was created.
 */
typedef struct f2d2_stats {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Calls that scored, of one frame or a batch.
     */
    uint64_t calls;
    /**
     * Frames of these calls.
     */
    uint64_t frames;
    /**
     * Frames that were judged normal.
     */
    uint64_t normal;
    /**
     * Frames that were judged anomalous.
     */
    uint64_t anomalous;
    /**
     * Frames that could not be judged.
     */
    uint64_t invalid;
    /**
     * Frames that there was no calibration for.
     */
    uint64_t unjudged;
    /**
     * Sum of the latencies of all calls, nanoseconds.
     */
    uint64_t latency_sum_ns;
    /**
     * Shortest latency of a call, nanoseconds; 0 before the first.
     */
    uint64_t latency_min_ns;
    /**
     * Longest latency of a call, nanoseconds; 0 before the first.
     */
    uint64_t latency_max_ns;
    /**
     * Number of calls by latency. Buckets 0 to 3 are one microsecond wide; from there on, every power of two of
     * microseconds has four of equal width. The last one has no end.
     */
    uint64_t latency[F2D2_LATENCY_BUCKETS];
} f2d2_stats;

/**
 * How a session is set up. Zero is the default of each.
 */
typedef struct f2d2_session_options {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Frames that a batch may have. Default 256.
     */
    uint32_t max_batch;
    /**
     * Least important level that `log` gets, F2D2_LOG_ERROR to F2D2_LOG_DEBUG; 0 is F2D2_LOG_INFO.
     */
    uint32_t log_level;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Receives messages about frames; NULL for none. It must work until the session is destroyed and the call on it
     * has returned.
     */
    f2d2_log_callback log;
    /**
     * Passed to `log`.
     */
    void *log_user_data;
} f2d2_session_options;

/**
 * The answer for one frame. Numbers that there are none of are NaN.
 */
typedef struct f2d2_inspection {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * F2D2_VERDICT_NONE to F2D2_VERDICT_INVALID.
     */
    uint32_t verdict;
    /**
     * Conformal p-value, in (0, 1]: at most a share p of normal images are as strange, on average.
     */
    double p_value;
    /**
     * Strangeness of the score vector, nats; higher = stranger.
     */
    double score;
    /**
     * Scores above it are anomalous.
     */
    double threshold;
    /**
     * Negative log-likelihood at the first noise floor, nats.
     */
    double nll_nats;
    /**
     * The same in bits per dimension.
     */
    double bpd;
    /**
     * Wall-clock time from frames to verdicts of the group of frames that it was in, nanoseconds.
     */
    uint64_t elapsed_ns;
    /**
     * Network evaluations per noise floor.
     */
    uint32_t steps;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Name of the engine that computed it, with a NUL.
     */
    char engine[16];
} f2d2_inspection;

/**
 * How a sampler is set up. Zero is the default of each.
 */
typedef struct f2d2_sampler_options {
    /**
     * Size of this struct, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Images evaluated side by side, at most 1024; 0 is one per core.
     */
    uint32_t threads;
    /**
     * Name of the engine, as for a detector.
     */
    const char *engine;
    /**
     * Name of the graphics adapter, as for a detector.
     */
    const char *adapter;
    /**
     * Threads to use in place of `threads` ones, as for a detector.
     */
    const struct f2d2_threads *pool;
    /**
     * Number format, as for a detector.
     */
    const char *precision;
    /**
     * 1: the CPU serves while the GPU compiles, as for a detector.
     */
    uint32_t background;
    /**
     * 1: the CPU takes over from a GPU that is lost for good, as for a detector; 0: F2D2_DEVICE_LOST.
     */
    uint32_t cpu_on_loss;
} f2d2_sampler_options;

/**
 * It worked.
 */
#define F2D2_OK 0

/**
 * An argument that must not be NULL is NULL.
 */
#define F2D2_NULL_POINTER 1

/**
 * A pointer to a struct or number is not aligned for it.
 */
#define F2D2_MISALIGNED 2

/**
 * A struct_size is not the size of that struct in any version of the header.
 */
#define F2D2_INVALID_STRUCT 3

/**
 * A field that this library does not know, or cannot serve, is set.
 */
#define F2D2_UNSUPPORTED_FIELD 4

/**
 * The handle was never one of this library.
 */
#define F2D2_INVALID_HANDLE 5

/**
 * The handle is one of another kind of object.
 */
#define F2D2_WRONG_HANDLE 6

/**
 * The object behind the handle was destroyed.
 */
#define F2D2_DESTROYED 7

/**
 * The session is at work: on another thread, or further up on this one.
 */
#define F2D2_BUSY 8

/**
 * An earlier call on this object panicked; it can only be destroyed.
 */
#define F2D2_POISONED 9

/**
 * The library panicked; this is a defect of it.
 */
#define F2D2_PANIC 10

/**
 * The process forked after it used the library; the child has to call exec first.
 */
#define F2D2_FORKED 11

/**
 * The cancel flag was set.
 */
#define F2D2_CANCELLED 12

/**
 * The caller's buffer is too small; the needed size was written.
 */
#define F2D2_BUFFER_TOO_SMALL 13

/**
 * A text is not UTF-8, is too long, or has no end.
 */
#define F2D2_INVALID_TEXT 14

/**
 * A number is none of those allowed, an index is out of range, or a name is unknown.
 */
#define F2D2_INVALID_VALUE 15

/**
 * A callback reported a failure or broke its contract.
 */
#define F2D2_CALLBACK_FAILED 16

/**
 * A limit of the interface is exceeded: frames of a batch, or handles.
 */
#define F2D2_LIMIT_EXCEEDED 17

/**
 * What was asked for is not there: no result yet, no heat map, no calibration.
 */
#define F2D2_UNAVAILABLE 18

/**
 * The operating system has no thread or memory left for this.
 */
#define F2D2_OUT_OF_RESOURCES 19

/**
 * The description of a frame cannot be true, or its pixels cannot be used.
 */
#define F2D2_INVALID_FRAME 100

/**
 * A file could not be read or written.
 */
#define F2D2_IO 200

/**
 * The model file is damaged, hostile or of another kind.
 */
#define F2D2_MODEL_CORRUPT 201

/**
 * The model file has a format that this library does not know yet.
 */
#define F2D2_MODEL_TOO_NEW 202

/**
 * The model holds an operator, data type or attribute that is not allowed.
 */
#define F2D2_MODEL_NOT_ALLOWED 203

/**
 * The model exceeds a limit.
 */
#define F2D2_MODEL_TOO_LARGE 204

/**
 * The engine does not reproduce the golden vectors of the model.
 */
#define F2D2_SELF_TEST 300

/**
 * The engine cannot be used here.
 */
#define F2D2_ENGINE_UNAVAILABLE 301

/**
 * The engine failed.
 */
#define F2D2_ENGINE 302

/**
 * A computed number is NaN or infinite.
 */
#define F2D2_NON_FINITE 303

/**
 * The graphics device is gone, or does not answer, and could not be had again.
 */
#define F2D2_DEVICE_LOST 304

/**
 * The graphics device has no room.
 */
#define F2D2_OUT_OF_DEVICE_MEMORY 305

/**
 * A model that only samples cannot be inverted for this image.
 */
#define F2D2_NOT_INVERTIBLE 306

/**
 * An option is out of range.
 */
#define F2D2_INVALID_OPTION 400

/**
 * There are too few images for the guarantee that was asked for.
 */
#define F2D2_TOO_FEW_IMAGES 500

/**
 * The calibration cannot be understood.
 */
#define F2D2_CALIBRATION_CORRUPT 501

/**
 * The calibration was made for another model, schedule, engine or preprocessing.
 */
#define F2D2_CALIBRATION_MISMATCH 502

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that runs, to be compared with F2D2_VERSION of the header it was compiled with.
 *
 * Returns 10000 * major + 100 * minor + patch. A program runs with any library of the same major version whose number
 * is not smaller.
 * Threads: any, at any time.
 */
uint32_t f2d2_version(void);

/**
 * The version of the library that runs, as in "0.1.0".
 *
 * Returns text that lives as long as the process.
 * Threads: any, at any time.
 */
const char *f2d2_version_string(void);

/**
 * The name of a status, as in "F2D2_BUSY"; "F2D2_UNKNOWN" for a number that this library does not know.
 *
 * Returns text that lives as long as the process.
 * Threads: any, at any time.
 */
const char *f2d2_status_name(f2d2_status status);

/**
 * Says why the last failed call of this thread failed. Calls that work leave it as it is.
 *
 * @param[out] error filled in; its texts are UTF-8 and stay valid until the next failed call of this thread.
 * Returns F2D2_OK; F2D2_NULL_POINTER, F2D2_MISALIGNED or F2D2_INVALID_STRUCT for `error`, which are not recorded.
 * Threads: any; every thread has its own record.
 */
F2D2_MUST_USE f2d2_status f2d2_last_error(struct f2d2_error *error);

/**
 * The number of handles that were created and not destroyed, to find leaks.
 *
 * @param[out] count the number.
 * Returns F2D2_OK, F2D2_NULL_POINTER or F2D2_MISALIGNED.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_live_handles(size_t *count);

/**
 * Creates a flag that is not set.
 *
 * @param[out] cancel the flag; destroy it with f2d2_cancel_destroy.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_cancel_create(struct f2d2_cancel **cancel);

/**
 * Sets the flag: calls that were given it end with F2D2_CANCELLED before their next frames.
 *
 * @param cancel the flag.
 * Returns F2D2_OK or why not.
 * Threads: any, also while calls look at the flag.
 */
F2D2_MUST_USE f2d2_status f2d2_cancel_set(struct f2d2_cancel *cancel);

/**
 * Clears the flag, to use it again.
 *
 * @param cancel the flag.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_cancel_reset(struct f2d2_cancel *cancel);

/**
 * Destroys a flag. Calls that look at it keep it until they end.
 *
 * @param cancel the flag, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_cancel_destroy(struct f2d2_cancel *cancel);

/**
 * Threads of the library. Whoever asks for as many gets the same ones while they live, also through the `threads` of
 * options.
 *
 * @param count how many, at most 1024; 0 is one per core.
 * @param[out] threads the threads; destroy them with f2d2_threads_destroy.
 * Returns F2D2_OK, F2D2_INVALID_OPTION, F2D2_ENGINE_UNAVAILABLE if they cannot be started, or why the arguments cannot
 * be used.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_threads_create(uint32_t count, struct f2d2_threads **threads);

/**
 * No threads: every call does its own work, and those of several threads do it side by side.
 *
 * @param[out] threads to be used as any others; destroy them with f2d2_threads_destroy.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_threads_create_none(struct f2d2_threads **threads);

/**
 * Threads of the host, with whatever names, priorities and places it gives them. Each takes its work with
 * f2d2_threads_take_work and does it with f2d2_work_run; until one of them does, calls that need the threads wait.
 *
 * @param count how many, 1 to 1024.
 * @param[out] threads the threads; destroy them with f2d2_threads_destroy.
 * Returns F2D2_OK, F2D2_INVALID_OPTION for another count, or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_threads_create_host(uint32_t count, struct f2d2_threads **threads);

/**
 * Gives the work of one thread of the host, as often as there are threads.
 *
 * @param threads the threads, of f2d2_threads_create_host.
 * @param[out] work the work; f2d2_work_run or f2d2_work_destroy takes it back.
 * Returns F2D2_OK, F2D2_INVALID_VALUE if all work was taken, or why not.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_threads_take_work(struct f2d2_threads *threads, struct f2d2_work **work);

/**
 * Works on this thread, which needs a stack of 2 MiB, until the threads that the work belongs to are no longer used:
 * until their handle and all detectors and samplers that were created with it are destroyed. Takes the work back.
 *
 * @param work the work.
 * Returns F2D2_OK at the end, or why not.
 * Threads: any; each piece of work once.
 */
F2D2_MUST_USE f2d2_status f2d2_work_run(struct f2d2_work *work);

/**
 * Gives work back that no thread will do; the other threads go on without.
 *
 * @param work the work, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_work_destroy(struct f2d2_work *work);

/**
 * Destroys threads. They end soon after the last detector and sampler that was created with them is destroyed, too.
 *
 * @param threads the threads, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_threads_destroy(struct f2d2_threads *threads);

/**
 * Opens a model file.
 *
 * @param path UTF-8 path of a regular file.
 * @param limits what the file may ask for; NULL for the defaults.
 * @param[out] model the model; destroy it with f2d2_model_destroy.
 * Returns F2D2_OK; F2D2_IO, F2D2_MODEL_CORRUPT, F2D2_MODEL_TOO_NEW, F2D2_MODEL_NOT_ALLOWED or F2D2_MODEL_TOO_LARGE for
 * the file; or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_model_open(const char *path,
                            const struct f2d2_limits *limits,
                            struct f2d2_model **model);

/**
 * Opens a model that is in memory.
 *
 * @param data the bytes of the model file; read during the call only.
 * @param size how many.
 * @param limits what the file may ask for; NULL for the defaults.
 * @param[out] model the model; destroy it with f2d2_model_destroy.
 * Returns as f2d2_model_open, without F2D2_IO.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_model_open_memory(const void *data,
                                   size_t size,
                                   const struct f2d2_limits *limits,
                                   struct f2d2_model **model);

/**
 * Opens a model that a callback reads, such as from an archive or an encrypted file.
 *
 * @param read gives the bytes; it is called on this thread until the end, a failure, or the limit of file_bytes.
 * @param user_data passed to `read`; may be NULL.
 * @param limits what the file may ask for; NULL for the defaults.
 * @param[out] model the model; destroy it with f2d2_model_destroy.
 * Returns as f2d2_model_open, with F2D2_CALLBACK_FAILED instead of F2D2_IO.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_model_open_callback(f2d2_read_callback read,
                                     void *user_data,
                                     const struct f2d2_limits *limits,
                                     struct f2d2_model **model);

/**
 * What a model says about itself.
 *
 * @param model the model.
 * @param[out] info filled in.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_model_get_info(const struct f2d2_model *model, struct f2d2_model_info *info);

/**
 * Destroys a model. What was created from it keeps it as long as needed.
 *
 * @param model the model, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_model_destroy(struct f2d2_model *model);

/**
 * Reads a calibration file.
 *
 * @param path UTF-8 path of a regular file.
 * @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
 * Returns F2D2_OK, F2D2_IO, F2D2_CALIBRATION_CORRUPT, or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_calibration_load(const char *path, struct f2d2_calibration **calibration);

/**
 * Reads a calibration that is in memory, in the form of a calibration file.
 *
 * @param data UTF-8 text; read during the call only. No NUL is needed.
 * @param size its length in bytes.
 * @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
 * Returns as f2d2_calibration_load, without F2D2_IO.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_calibration_load_memory(const void *data,
                                         size_t size,
                                         struct f2d2_calibration **calibration);

/**
 * Writes a calibration file. An older file is replaced as a whole, or kept if writing fails.
 *
 * @param calibration the calibration.
 * @param path UTF-8 path.
 * Returns F2D2_OK, F2D2_IO, or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_calibration_save(const struct f2d2_calibration *calibration, const char *path);

/**
 * The text of a calibration file, to be kept anywhere.
 *
 * @param calibration the calibration.
 * @param buffer where the text goes, with a NUL; NULL to ask for the size.
 * @param capacity its size in bytes.
 * @param[out] needed size of the text in bytes, with the NUL; also written for F2D2_BUFFER_TOO_SMALL.
 * Returns F2D2_OK, F2D2_BUFFER_TOO_SMALL, or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_calibration_save_memory(const struct f2d2_calibration *calibration,
                                         char *buffer,
                                         size_t capacity,
                                         size_t *needed);

/**
 * What a calibration promises and what it was made from.
 *
 * @param calibration the calibration.
 * @param[out] info filled in.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_calibration_get_info(const struct f2d2_calibration *calibration,
                                      struct f2d2_calibration_info *info);

/**
 * How many normal images a calibration needs at least.
 *
 * @param options what it shall promise; NULL for the defaults.
 * @param[out] images the number; the largest size_t if no number suffices.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_calibration_minimum_images(const struct f2d2_calibration_options *options,
                                            size_t *images);

/**
 * Destroys a calibration. Detectors that judge by it keep their own copy.
 *
 * @param calibration the calibration, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_calibration_destroy(struct f2d2_calibration *calibration);

/**
 * Puts a model on an engine and checks the engine against the model's golden vectors.
 *
 * @param model the model; the detector keeps it as long as needed.
 * @param options how; NULL for the defaults.
 * @param[out] detector the detector; destroy it with f2d2_detector_destroy.
 * Returns F2D2_OK; F2D2_ENGINE_UNAVAILABLE, F2D2_SELF_TEST, F2D2_MODEL_CORRUPT, F2D2_OUT_OF_RESOURCES;
 * F2D2_CALIBRATION_MISMATCH for a calibration of another detector; F2D2_INVALID_OPTION or F2D2_INVALID_VALUE for the
 * options; or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_detector_create(const struct f2d2_model *model,
                                 const struct f2d2_detector_options *options,
                                 struct f2d2_detector **detector);

/**
 * The same detector, judging by `calibration`. Model and engine are shared with the first, which stays as it is.
 *
 * @param detector the first detector.
 * @param calibration what to judge by; copied.
 * @param[out] calibrated the new detector; destroy it with f2d2_detector_destroy.
 * Returns F2D2_OK, F2D2_CALIBRATION_MISMATCH, or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_detector_calibrated(const struct f2d2_detector *detector,
                                     const struct f2d2_calibration *calibration,
                                     struct f2d2_detector **calibrated);

/**
 * Which engine runs the detector, and why.
 *
 * @param detector the detector.
 * @param[out] report filled in.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_detector_get_engine(const struct f2d2_detector *detector,
                                     struct f2d2_engine_report *report);

/**
 * Checks the engine against the golden vectors in the model file.
 *
 * @param detector the detector.
 * Returns F2D2_OK, F2D2_SELF_TEST, or why it could not be checked.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_detector_self_test(const struct f2d2_detector *detector);

/**
 * Scores one grey frame and forgets it, so that the first frame of the camera does not pay for what comes once.
 *
 * @param detector the detector.
 * Returns F2D2_OK, or why the frame could not be scored.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_detector_warm_up(const struct f2d2_detector *detector);

/**
 * Makes a calibration from frames that are all normal. Frames that cannot be used are left out, with a message each.
 *
 * For more frames than fit into memory use f2d2_session_collect.
 *
 * @param detector the detector.
 * @param frames `count` frames, all with the struct_size of the first; sizes and formats may differ.
 * @param count number of frames; f2d2_calibration_minimum_images says how many are needed.
 * @param options what the calibration shall promise; NULL for the defaults.
 * @param cancel looked at between frames; may be NULL.
 * @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
 * Returns F2D2_OK, F2D2_TOO_FEW_IMAGES, F2D2_CANCELLED, F2D2_INVALID_OPTION, F2D2_NON_FINITE, or why the arguments
 * cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_detector_calibrate(const struct f2d2_detector *detector,
                                    const struct f2d2_frame *frames,
                                    size_t count,
                                    const struct f2d2_calibration_options *options,
                                    const struct f2d2_cancel *cancel,
                                    struct f2d2_calibration **calibration);

/**
 * Destroys a detector. Sessions keep what they need of it.
 *
 * @param detector the detector, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_detector_destroy(struct f2d2_detector *detector);

/**
 * The latency that a share of all calls does not exceed: 0.5 for the median, 0.99 for the slowest percent.
 *
 * @param stats what f2d2_session_get_stats gave, or sums and differences of such.
 * @param quantile between 0 and 1.
 * @param[out] latency_ns nanoseconds, at most a quarter too long.
 * Returns F2D2_OK, F2D2_INVALID_VALUE, F2D2_UNAVAILABLE before the first call, or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE f2d2_status f2d2_stats_quantile(const struct f2d2_stats *stats, double quantile, uint64_t *latency_ns);

/**
 * Creates a session.
 *
 * @param detector the detector; the session keeps what it needs of it.
 * @param options how; NULL for the defaults.
 * @param[out] session the session; destroy it with f2d2_session_destroy.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_create(const struct f2d2_detector *detector,
                                const struct f2d2_session_options *options,
                                struct f2d2_session **session);

/**
 * Scores one frame, and judges it if the detector has a calibration.
 *
 * @param session the session; its results are replaced by that of this frame, number 0.
 * @param frame the frame; its pixels are read during the call only.
 * @param[out] inspection filled in. If the pixels cannot be judged (a float that is NaN, say) its verdict is
 * F2D2_VERDICT_INVALID and the call returns F2D2_OK all the same.
 * Returns F2D2_OK; F2D2_INVALID_FRAME if the description of the frame cannot be true; F2D2_BUSY; or why the arguments
 * cannot be used.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_score(struct f2d2_session *session,
                               const struct f2d2_frame *frame,
                               struct f2d2_inspection *inspection);

/**
 * Scores frames side by side. A frame that fails fails alone: its verdict is F2D2_VERDICT_INVALID.
 *
 * @param session the session; its results are replaced by those of these frames, numbered from 0.
 * @param frames `count` frames, all with the struct_size of the first; sizes and formats may differ.
 * @param count number of frames, at most max_batch of the session's options; 0 does nothing.
 * @param[out] inspections `count` structs, all with the struct_size of the first; filled in.
 * @param cancel looked at between frames; may be NULL.
 * Returns F2D2_OK, F2D2_LIMIT_EXCEEDED, F2D2_CANCELLED, F2D2_BUSY, or why the arguments cannot be used.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_score_batch(struct f2d2_session *session,
                                     const struct f2d2_frame *frames,
                                     size_t count,
                                     struct f2d2_inspection *inspections,
                                     const struct f2d2_cancel *cancel);

/**
 * Why the verdict of a frame of the last call is F2D2_VERDICT_INVALID; empty for any other verdict.
 *
 * @param session the session.
 * @param index number of the frame in the last call.
 * @param buffer where the UTF-8 text goes, with a NUL; NULL to ask for the size.
 * @param capacity its size in bytes.
 * @param[out] needed size of the text in bytes, with the NUL; also written for F2D2_BUFFER_TOO_SMALL.
 * Returns F2D2_OK, F2D2_BUFFER_TOO_SMALL, F2D2_INVALID_VALUE for an index beyond the last call, F2D2_BUSY, or why the
 * arguments cannot be used.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_reason(struct f2d2_session *session,
                                size_t index,
                                char *buffer,
                                size_t capacity,
                                size_t *needed);

/**
 * The score vector of a frame of the last call.
 *
 * @param session the session.
 * @param index number of the frame in the last call.
 * @param values where the numbers go; NULL to ask for their number.
 * @param capacity how many fit.
 * @param[out] needed how many there are; the same for every frame of a detector.
 * Returns as f2d2_session_reason, and F2D2_UNAVAILABLE for a frame that was not judged.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_statistics(struct f2d2_session *session,
                                    size_t index,
                                    double *values,
                                    size_t capacity,
                                    size_t *needed);

/**
 * The name of a number in the score vector, as in "nll@1".
 *
 * @param session the session.
 * @param index number of the frame in the last call.
 * @param position which number of its score vector.
 * @param buffer where the UTF-8 text goes, with a NUL; NULL to ask for the size.
 * @param capacity its size in bytes.
 * @param[out] needed size of the text in bytes, with the NUL; also written for F2D2_BUFFER_TOO_SMALL.
 * Returns as f2d2_session_statistics.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_statistic_name(struct f2d2_session *session,
                                        size_t index,
                                        size_t position,
                                        char *buffer,
                                        size_t capacity,
                                        size_t *needed);

/**
 * One number of the score vector by its name, as in "nll@1".
 *
 * @param session the session.
 * @param index number of the frame in the last call.
 * @param name which number.
 * @param[out] value the number.
 * Returns as f2d2_session_statistics, and F2D2_INVALID_VALUE for a name that there is not.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_statistic(struct f2d2_session *session,
                                   size_t index,
                                   const char *name,
                                   double *value);

/**
 * The heat map of a frame of the last call: strangeness per pixel of the model's image size, row by row.
 *
 * Values are relative within one image; a hot pixel is no verdict.
 *
 * @param session the session, of a detector that was created with heat_maps.
 * @param index number of the frame in the last call.
 * @param values where the numbers go, nats per pixel, higher = stranger; NULL to ask for their number.
 * @param capacity how many fit.
 * @param[out] needed how many there are, width times height.
 * @param[out] width columns; may be NULL.
 * @param[out] height rows; may be NULL.
 * Returns as f2d2_session_statistics, and F2D2_UNAVAILABLE without heat_maps.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_heat_map(struct f2d2_session *session,
                                  size_t index,
                                  float *values,
                                  size_t capacity,
                                  size_t *needed,
                                  uint32_t *width,
                                  uint32_t *height);

/**
 * Measures a normal frame and keeps its score vector for f2d2_session_calibrate. The frame itself is not kept.
 *
 * @param session the session; its results stay as they are.
 * @param frame the frame; its pixels are read during the call only.
 * Returns F2D2_OK; F2D2_INVALID_FRAME or F2D2_NON_FINITE for a frame that cannot be used, which is left out;
 * F2D2_BUSY; or why the arguments cannot be used.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE f2d2_status f2d2_session_collect(struct f2d2_session *session, const struct f2d2_frame *frame);

/**
 * Makes a calibration from the frames that were collected, which are forgotten then. If it fails they are kept.
 *
 * @param session the session.
 * @param options what the calibration shall promise; NULL for the defaults.
 * @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
 * Returns F2D2_OK, F2D2_TOO_FEW_IMAGES, F2D2_INVALID_OPTION, F2D2_NON_FINITE, F2D2_BUSY, or why the arguments cannot be
 * used.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE
f2d2_status f2d2_session_calibrate(struct f2d2_session *session,
                                   const struct f2d2_calibration_options *options,
                                   struct f2d2_calibration **calibration);

/**
 * What the session did since it was created.
 *
 * @param session the session.
 * @param[out] stats filled in.
 * Returns F2D2_OK, F2D2_BUSY, or why the arguments cannot be used.
 * Threads: one at a time per session.
 */
F2D2_MUST_USE f2d2_status f2d2_session_get_stats(struct f2d2_session *session, struct f2d2_stats *stats);

/**
 * Destroys a session; a call on it that is under way ends as usual.
 *
 * @param session the session, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_session_destroy(struct f2d2_session *session);

/**
 * Puts a model on an engine, to draw images.
 *
 * @param model the model; the sampler keeps it as long as needed.
 * @param options how; NULL for the defaults.
 * @param[out] sampler the sampler; destroy it with f2d2_sampler_destroy.
 * Returns F2D2_OK, F2D2_INVALID_OPTION for a model that does not sample, F2D2_ENGINE_UNAVAILABLE,
 * F2D2_OUT_OF_RESOURCES, or why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_sampler_create(const struct f2d2_model *model,
                                const struct f2d2_sampler_options *options,
                                struct f2d2_sampler **sampler);

/**
 * Draws images. Image i depends on the seed and i only.
 *
 * @param sampler the sampler.
 * @param count number of images.
 * @param steps network evaluations per image; 0 takes the model's recommendation.
 * @param seed of the noise.
 * @param pixels where the images go, one after the other, rows of packed bytes, grey or red-green-blue as the model
 * has them; NULL to ask for the size.
 * @param capacity its size in bytes.
 * @param[out] needed size of all images in bytes; also written for F2D2_BUFFER_TOO_SMALL.
 * Returns F2D2_OK, F2D2_BUFFER_TOO_SMALL, F2D2_LIMIT_EXCEEDED, F2D2_INVALID_OPTION, F2D2_ENGINE, F2D2_NON_FINITE, or
 * why the arguments cannot be used.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_sampler_draw(const struct f2d2_sampler *sampler,
                              size_t count,
                              uint32_t steps,
                              uint64_t seed,
                              uint8_t *pixels,
                              size_t capacity,
                              size_t *needed);

/**
 * Draws images, each after one step on its noise towards a likelier image. Image i depends on the seed, i and the
 * learning rate only.
 *
 * The model needs the output grad_d. It is loaded at the first call, and evaluated once per image, on the CPU.
 *
 * @param sampler the sampler.
 * @param count number of images.
 * @param steps network evaluations per image beside that of the gradient; 0 takes the model's recommendation.
 * @param seed of the noise.
 * @param learning_rate size of the step on every value of the noise, finite and above 0; 0.01 to 0.1 are usual.
 * @param pixels where the images go, as for f2d2_sampler_draw; NULL to ask for the size.
 * @param capacity its size in bytes.
 * @param[out] needed size of all images in bytes; also written for F2D2_BUFFER_TOO_SMALL.
 * Returns F2D2_OK, F2D2_INVALID_OPTION for a learning rate out of range or a model without grad_d, F2D2_SELF_TEST if
 * its gradient is not what the model file says, or as f2d2_sampler_draw.
 * Threads: any.
 */
F2D2_MUST_USE
f2d2_status f2d2_sampler_draw_guided(const struct f2d2_sampler *sampler,
                                     size_t count,
                                     uint32_t steps,
                                     uint64_t seed,
                                     double learning_rate,
                                     uint8_t *pixels,
                                     size_t capacity,
                                     size_t *needed);

/**
 * Destroys a sampler.
 *
 * @param sampler the sampler, or NULL.
 * Returns F2D2_OK or why not.
 * Threads: any.
 */
f2d2_status f2d2_sampler_destroy(struct f2d2_sampler *sampler);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* F2D2_H */

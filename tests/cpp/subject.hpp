// What the conformance suite asks of a face of the library. A face's header includes this one and defines, in the
// namespace `subject`: `name`, the classes `Pool` (threads to share) and `Opened` (a model on an engine) and the functions
// `engine`, `sampler`, `open_file` and `open_limited`. Every failure is thrown as `Failure`.
#ifndef SUBJECT_HPP
#define SUBJECT_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace subject {

struct Failure : std::runtime_error {
    Failure(std::uint32_t code_, const std::string& what) : std::runtime_error(what), code(code_) {}
    std::uint32_t code;
};

enum Format { gray8, gray16, rgb8, bgr8, rgba8, bgra8, grayf32, rgbf32 };
enum Verdict { uncalibrated, normal, anomalous, invalid };

// All zero: the whole image.
struct Region {
    std::uint32_t x, y, width, height;
};

struct Image {
    const std::uint8_t* data;
    std::size_t length;
    Format format;
    std::uint32_t width, height;
    std::size_t stride;  // 0: rows follow each other
    Region region;
};

struct Scored {
    Verdict verdict = uncalibrated;
    std::string reason;
    double score = std::numeric_limits<double>::quiet_NaN(), p_value = score, nll = score, bpd = score;
    std::map<std::string, double> statistics;
    std::vector<float> heat_map;
};

// An engine that is asked for.
struct Asked {
    std::string engine, adapter = "";
    bool f16 = false, background = false, cpu_on_loss = false;
};

// The engine that is used.
struct Used {
    std::string engine, precision;
};

}  // namespace subject

#endif

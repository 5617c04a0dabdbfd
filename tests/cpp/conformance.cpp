// What every C++ face of the library has to do alike: models with a known answer, written by tests/cpp.rs together with
// their expected values. SUBJECT is the header of the face under test; see subject.hpp for what it provides.

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include SUBJECT

using subject::Asked;
using subject::Failure;
using subject::Image;
using subject::Opened;
using subject::Pool;
using subject::Scored;
using subject::Used;

namespace {

int checks = 0;
int failures = 0;

void check(bool good, const std::string& what) {
    ++checks;
    if (!good) {
        ++failures;
        std::cout << "wrong: " << what << "\n";
    }
}

// In the accepting form: a NaN is on neither side of a bound, so it has to be refused.
bool is_close(double got, double need, double tolerance) { return std::abs(got - need) <= tolerance; }

void close(const std::string& what, double got, double need, double tolerance) {
    check(is_close(got, need, tolerance), what + ": got " + std::to_string(got) + ", need " + std::to_string(need));
}

// The call fails with `code` and says why.
template <class Call>
void fails(std::uint32_t code, const std::string& what, Call&& call) {
    try {
        call();
        check(false, what + ": accepted");
    } catch (const Failure& failure) {
        check(failure.code == code,
              what + ": code " + std::to_string(failure.code) + ", need " + std::to_string(code) + ": " + failure.what());
        check(std::strlen(failure.what()) > 0, what + ": no message");
    }
}

using Pixels = std::vector<std::uint8_t>;

// One model with images and what is known about them.
struct Case {
    std::string name, model;
    std::size_t channels = 0, height = 0, width = 0, steps = 0;
    std::vector<double> floors;
    std::vector<Pixels> images;
    std::vector<std::map<std::string, double>> expected;
    std::size_t sample_steps = 0;
    std::uint64_t sample_seed = 0;
    std::vector<Pixels> samples;
    double guidance = 0;
    std::vector<Pixels> guided;  // none if the model has no gradient

    Image image(const Pixels& pixels) const {
        return {pixels.data(), pixels.size(), channels == 3 ? subject::rgb8 : subject::gray8,
                static_cast<std::uint32_t>(width), static_cast<std::uint32_t>(height), 0, {}};
    }
};

template <class T>
T read(std::istream& in, const char* what) {
    T value{};
    if (!(in >> value)) {
        std::cout << "wrong: the case file has no " << what << "\n";
        std::exit(2);
    }
    return value;
}

// A stream does not read "nan".
template <>
double read<double>(std::istream& in, const char* what) {
    return std::strtod(read<std::string>(in, what).c_str(), nullptr);
}

std::vector<Pixels> read_images(std::istream& in, std::size_t length) {
    std::vector<Pixels> images(read<std::size_t>(in, "number of images"), Pixels(length));
    for (Pixels& image : images)
        for (std::uint8_t& value : image) value = static_cast<std::uint8_t>(read<int>(in, "pixel"));
    return images;
}

std::vector<Case> read_cases(const std::string& path) {
    std::ifstream in(path);
    std::vector<Case> cases(read<std::size_t>(in, "number of cases"));
    for (Case& c : cases) {
        c.name = read<std::string>(in, "name");
        c.model = read<std::string>(in, "model");
        c.channels = read<std::size_t>(in, "channels");
        c.height = read<std::size_t>(in, "height");
        c.width = read<std::size_t>(in, "width");
        c.steps = read<std::size_t>(in, "steps");
        c.floors.resize(read<std::size_t>(in, "number of floors"));
        for (double& floor : c.floors) floor = read<double>(in, "floor");
        c.images = read_images(in, c.channels * c.height * c.width);
        c.expected.resize(c.images.size());
        for (auto& expected : c.expected) {
            for (auto left = read<std::size_t>(in, "number of values"); left > 0; --left) {
                const auto name = read<std::string>(in, "name of a value");
                expected[name] = read<double>(in, "value");
            }
        }
        c.sample_steps = read<std::size_t>(in, "steps of samples");
        c.sample_seed = read<std::uint64_t>(in, "seed of samples");
        c.samples = read_images(in, c.channels * c.height * c.width);
        c.guidance = read<double>(in, "guidance of samples");
        c.guided = read_images(in, c.channels * c.height * c.width);
    }
    return cases;
}

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

double value(const Scored& scored, const std::string& name) {
    if (name == "nll") return scored.nll;
    if (name == "bpd") return scored.bpd;
    const auto found = scored.statistics.find(name);
    return found == scored.statistics.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

void same_samples(const std::string& what, const std::vector<Pixels>& got, const std::vector<Pixels>& need) {
    check(got.size() == need.size(), what + ": as many as asked for");
    for (std::size_t i = 0; i < got.size() && i < need.size(); ++i) {
        check(got[i].size() == need[i].size(), what + ": its size");
        // A value next to the border between two bins may fall on either side.
        for (std::size_t j = 0; j < got[i].size() && j < need[i].size(); ++j) close(what, got[i][j], need[i][j], 1.0);
    }
}

void closed_forms(const Case& c) {
    Opened opened(read_file(c.model), c.steps, c.floors, false);
    const double dims = static_cast<double>(c.channels * c.height * c.width) * std::log(2.0);
    std::vector<Image> batch;
    for (const Pixels& pixels : c.images) batch.push_back(c.image(pixels));
    const std::vector<Scored> together = opened.score(batch);
    check(together.size() == batch.size(), c.name + ": one result per frame");
    for (std::size_t i = 0; i < batch.size() && i < together.size(); ++i) {
        const Scored alone = opened.score(batch[i]);
        check(alone.verdict == subject::uncalibrated, c.name + ": no verdict without a calibration");
        check(alone.statistics == together[i].statistics && alone.nll == together[i].nll,
              c.name + ": a batch is its frames");
        for (const auto& [name, need] : c.expected[i]) {
            const std::string what = c.name + " image " + std::to_string(i) + " " + name;
            const double unit = name == "nll" ? dims : 1.0;
            close(what, value(alone, name) / unit, need / unit, name == "bpd" || name == "nll" ? 1e-3 : 2e-4);
        }
    }
    same_samples(c.name + " sample", opened.sample(c.samples.size(), c.sample_steps, c.sample_seed), c.samples);
    const auto guided = [&](double rate) {
        return opened.guided(c.samples.size(), c.sample_steps, c.sample_seed, rate);
    };
    check(opened.guides() == !c.guided.empty(), c.name + " says whether it guides");
    if (c.guided.empty())
        fails(400, "a model without gradient", [&] { guided(c.guidance); });
    else
        same_samples(c.name + " guided sample", guided(c.guidance), c.guided);
    for (const double rate : {0.0, -0.1, std::nan("")}) fails(400, "a guidance that is none", [&] { guided(rate); });
}

// The same picture in every format that can hold it: the same answer, to the last bit.
void formats(const Case& c) {
    Opened opened(read_file(c.model), c.steps, c.floors, true);
    const auto width = static_cast<std::uint32_t>(c.width), height = static_cast<std::uint32_t>(c.height);
    const Pixels& pixels = c.images.back();
    const Scored need = opened.score(c.image(pixels));
    check(need.heat_map.size() == c.width * c.height, c.name + ": size of the heat map");
    auto same = [&](const std::string& what, const Image& image) {
        const Scored got = opened.score(image);
        check(got.nll == need.nll && got.statistics == need.statistics && got.heat_map == need.heat_map,
              c.name + ": " + what + " differs");
    };
    const std::size_t row = c.width * c.channels, padding = 5;
    const std::size_t stride = row + padding;
    Pixels padded(stride * (c.height - 1) + row, 0xAA);
    for (std::size_t y = 0; y < c.height; ++y) std::memcpy(&padded[y * stride], &pixels[y * row], row);
    const auto format = c.image(pixels).format;
    same("a padded frame", {padded.data(), padded.size(), format, width, height, stride, {}});

    const std::size_t wide = row + 2 * c.channels;
    Pixels larger(wide * (c.height + 3), 0x55);
    for (std::size_t y = 0; y < c.height; ++y)
        std::memcpy(&larger[(y + 2) * wide + c.channels], &pixels[y * row], row);
    same("a region", {larger.data(), larger.size(), format, width + 2, height + 3, wide, {1, 2, width, height}});

    auto widen = [&](auto convert) {
        std::vector<decltype(convert(pixels[0]))> wider;
        for (std::uint8_t v : pixels) wider.push_back(convert(v));
        return wider;
    };
    auto bytes = [&](const auto& wider, auto as) {
        return Image{reinterpret_cast<const std::uint8_t*>(wider.data()), wider.size() * sizeof wider[0], as, width,
                     height, 0, {}};
    };
    const auto floats = widen([](std::uint8_t v) { return static_cast<float>(v) / 255.0F; });
    if (c.channels == 1) {
        const auto words = widen([](std::uint8_t v) { return static_cast<std::uint16_t>(v * 257); });
        same("gray16", bytes(words, subject::gray16));
        same("grayf32", bytes(floats, subject::grayf32));
        return;
    }
    same("rgbf32", bytes(floats, subject::rgbf32));
    Pixels bgr, rgba, bgra;
    for (std::size_t i = 0; i + 2 < pixels.size(); i += 3) {
        const std::uint8_t r = pixels[i], g = pixels[i + 1], b = pixels[i + 2];
        bgr.insert(bgr.end(), {b, g, r});
        rgba.insert(rgba.end(), {r, g, b, 7});
        bgra.insert(bgra.end(), {b, g, r, 9});
    }
    same("bgr8", bytes(bgr, subject::bgr8));
    same("rgba8", bytes(rgba, subject::rgba8));
    same("bgra8", bytes(bgra, subject::bgra8));
}

void bad_frames(const Case& c) {
    Opened opened(read_file(c.model), c.steps, c.floors, false);
    const Image good = c.image(c.images[0]);
    const Scored alone = opened.score(good);
    const std::size_t row = c.width * c.channels;
    auto refused = [&](const std::string& what, auto change) {
        Image bad = good;
        change(bad);
        fails(100, what, [&] { opened.score(bad); });
        // In a batch a frame fails alone.
        const std::vector<Scored> batch = opened.score(std::vector<Image>{bad, good});
        check(batch[0].verdict == subject::invalid && !batch[0].reason.empty(), what + " in a batch is invalid");
        check(batch[1].nll == alone.nll && batch[1].reason.empty(), what + " in a batch leaves the others alone");
    };
    refused("no width", [](Image& i) { i.width = 0; });
    refused("no height", [](Image& i) { i.height = 0; });
    refused("huge width", [](Image& i) { i.width = 1U << 31U; });
    if (c.height > 1) {  // A single row has no use for its stride, and 0 stands for packed rows.
        refused("a short stride", [&](Image& i) { i.stride = row - 1; });
        refused("a huge stride", [](Image& i) { i.stride = std::numeric_limits<std::size_t>::max(); });
    }
    refused("a short buffer", [](Image& i) { i.length -= 1; });
    refused("a wrong format", [](Image& i) { i.format = static_cast<decltype(i.format)>(77); });
    refused("a region outside", [&](Image& i) { i.region = {1, 0, i.width, i.height}; });
    refused("an empty region", [&](Image& i) { i.region = {1, 0, 0, i.height}; });
    std::vector<float> values(c.width * c.height * c.channels, 0.5F);
    auto floats = [&] {
        return Image{reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(float),
                     c.channels == 3 ? subject::rgbf32 : subject::grayf32, good.width, good.height, 0, {}};
    };
    check(opened.score(floats()).verdict == subject::uncalibrated, "finite floats are scored");
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -0.5F, 2.0F}) {
        values.back() = bad;
        const Scored scored = opened.score(floats());
        check(scored.verdict == subject::invalid && !scored.reason.empty() && std::isnan(scored.nll),
              "a frame with " + std::to_string(bad) + " is invalid, with the reason");
    }
}

// The values of calibration.txt: alpha, delta, the text that calibrating must give, and frames with their answers.
void calibrations(const std::string& folder, const Case& c, const Case& other) {
    std::ifstream in(folder + "/calibration.txt");
    const double alpha = read<double>(in, "alpha"), delta = read<double>(in, "delta");
    const auto seed = read<std::uint64_t>(in, "seed");
    const std::size_t length = c.channels * c.height * c.width;
    const std::vector<Pixels> normal = read_images(in, length), judged = read_images(in, length);
    std::vector<Image> frames;
    for (const Pixels& pixels : normal) frames.push_back(c.image(pixels));

    Opened opened(read_file(c.model), c.steps, c.floors, false);
    const std::string json = opened.calibrate(frames, alpha, delta, seed);
    check(json == read_file(folder + "/calibration.json"), "calibrating gives the same file as in Rust");
    opened.use_calibration(json);
    bool seen[3] = {};
    for (const Pixels& pixels : judged) {
        const auto anomalous = read<int>(in, "verdict");
        const double score = read<double>(in, "score"), p_value = read<double>(in, "p-value");
        const Scored scored = opened.score(c.image(pixels));
        check(scored.verdict == (anomalous != 0 ? subject::anomalous : subject::normal), "the verdict is that of Rust");
        seen[anomalous] = true;
        close("score", scored.score, score, 1e-9 * (1.0 + std::abs(score)));
        close("p-value", scored.p_value, p_value, 1e-12);
    }
    check(seen[0] && seen[1], "there are normal and anomalous images");

    frames.resize(frames.size() / 2);
    fails(500, "too few images", [&] { opened.calibrate(frames, alpha, delta, seed); });
    fails(400, "a rate of 1", [&] { opened.calibrate(frames, 1.0, delta, seed); });
    fails(400, "a rate of NaN", [&] { opened.calibrate(frames, std::nan(""), delta, seed); });
    fails(501, "a damaged calibration", [&] { opened.use_calibration(json.substr(0, json.size() / 2)); });
    Opened elsewhere(read_file(other.model), other.steps, other.floors, false);
    fails(502, "a calibration of another model", [&] { elsewhere.use_calibration(json); });
}

// Threads of this process besides this one; -1 where nobody says.
int threads_beside() {
    std::ifstream in("/proc/self/status");
    for (std::string word; in >> word;)
        if (word == "Threads:") return read<int>(in, "number of threads") - 1;
    return -1;
}

// Threads that end take their time.
void threads_become(int count, const std::string& what) {
    for (int i = 0; i < 1000 && threads_beside() != count; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    check(threads_beside() == count, what + ": " + std::to_string(threads_beside()) + " threads, need " + std::to_string(count));
}

// Whatever the threads: the same verdicts and numbers to the last bit, and no more threads than asked for.
void pools(const std::string& folder, const Case& c) {
    const std::string model = read_file(c.model), calibration = read_file(folder + "/calibration.json");
    std::vector<Image> images;
    for (const Pixels& pixels : c.images) images.push_back(c.image(pixels));
    auto judged = [&](Opened& opened) {
        opened.use_calibration(calibration);
        return opened.score(images);
    };
    auto same = [](const std::vector<Scored>& got, const std::vector<Scored>& need) {
        bool same = got.size() == need.size();
        for (std::size_t i = 0; same && i < got.size(); ++i)
            same = got[i].verdict == need[i].verdict && got[i].score == need[i].score && got[i].p_value == need[i].p_value
                && got[i].nll == need[i].nll && got[i].statistics == need[i].statistics
                && got[i].heat_map == need[i].heat_map;
        return same;
    };
    std::vector<Scored> need;
    std::vector<Pixels> samples;
    {
        Opened opened(model, c.steps, c.floors, true);
        need = judged(opened);
        samples = opened.sample(c.samples.size(), c.sample_steps, c.sample_seed);
    }
    std::vector<Scored> other = need;
    other.back().score = std::nextafter(other.back().score, 0.0);
    check(same(need, need) && !same(other, need), "the last bit is compared");
    if (threads_beside() < 0) std::cout << "skipped: nothing here counts the threads of a process\n";
    const bool counted = threads_beside() >= 0;
    if (counted) threads_become(0, "before");

    auto two_on = [&](const Pool& pool, int count, const std::string& what) {
        Opened one(model, c.steps, c.floors, true, &pool), two(model, c.steps, c.floors, true, &pool);
        check(same(judged(one), need) && same(judged(two), need), what + " changes a verdict");
        check(two.sample(c.samples.size(), c.sample_steps, c.sample_seed) == samples, what + " changes a sample");
        if (counted) threads_become(count, what);
    };
    two_on(Pool::none(), 0, "no threads");
    for (const int count : {1, 2, 3})
        two_on(Pool::shared(static_cast<std::uint32_t>(count)), count, std::to_string(count) + " threads");
    std::vector<std::thread> workers;
    {
        Pool host = Pool::of_host(2);
        workers.push_back(host.start());
        workers.push_back(host.start());
        two_on(host, 2, "threads of the host");
        try {
            workers.push_back(host.start());
            check(false, "more work than threads");
        } catch (const Failure&) {
            check(true, "as much work as threads");
        }
    }
    for (std::thread& worker : workers) worker.join();
    if (counted) threads_become(0, "after");
    const Pool two = Pool::shared(2);
    fails(400, "a pool and a number", [&] { Opened(model, c.steps, c.floors, false, &two, 2); });
    fails(400, "no threads of the host", [] { Pool::of_host(0); });
}

void bad_models(const std::string& folder, const Case& c) {
    const std::string bytes = read_file(c.model);
    auto open = [&](const std::string& model, std::size_t steps, const std::vector<double>& floors) {
        return [=] { Opened opened(model, steps, floors, false); };
    };
    fails(201, "no bytes", open("", c.steps, c.floors));
    fails(201, "text", open("this is no model", c.steps, c.floors));
    fails(201, "half a model", open(bytes.substr(0, bytes.size() / 2), c.steps, c.floors));
    fails(300, "wrong golden values", open(read_file(folder + "/wrong_golden.onnx"), c.steps, c.floors));
    fails(400, "a noise floor twice", open(bytes, c.steps, {1.0, 1.0}));
    fails(400, "a noise floor above 1", open(bytes, c.steps, {1.5}));
    fails(400, "a noise floor of NaN", open(bytes, c.steps, {std::nan("")}));
    fails(200, "no file", [&] { subject::open_file(folder + "/none.onnx"); });
    fails(204, "a file above the limit", [&] { subject::open_limited(bytes, bytes.size() - 1); });
    subject::open_file(c.model);
    subject::open_limited(bytes, bytes.size());
}

// The engine, adapter and number format that are asked for are those that are used.
void engines(const std::string& folder, const Case& c) {
    const std::string bytes = read_file(c.model);
    auto used = [&](const Asked& asked, const std::string& engine, const std::string& precision) {
        const Used used = subject::engine(bytes, asked);
        check(used.engine == engine && used.precision == precision,
              asked.engine + " is " + used.engine + " in " + used.precision + ", need " + engine + " in " + precision);
        subject::sampler(bytes, asked);
    };
    auto refused = [&](std::uint32_t code, const std::string& what, const Asked& asked) {
        fails(code, what, [&] { subject::engine(bytes, asked); });
        fails(code, what, [&] { subject::sampler(bytes, asked); });
    };
    used({"cpu"}, "cpu", "f32");
    used({"cpu", "", true}, "cpu", "f16");
    used({"tract", "", true}, "tract", "f32");
    refused(400, "an engine that there is not", {"steam"});
    refused(301, "an adapter that there is not", {"gpu", "no such adapter", false, false, true});
    const std::string adapter = read_file(folder + "/adapter.txt");
    if (adapter.empty()) {
        std::cout << "skipped: no graphics adapter\n";
        return;
    }
    used({"gpu", adapter}, "gpu", "f32");
    used({"gpu", adapter, false, false, true}, "gpu", "f32");
    const Used first = subject::engine(bytes, {"gpu", adapter, false, true});
    check(first.engine == "cpu" || first.engine == "gpu", "in the background: " + first.engine);
}

// The comparison itself: it accepts what is near, and nothing else.
void comparison() {
    const double nan = std::nan(""), infinite = std::numeric_limits<double>::infinity();
    check(is_close(1.0005, 1.0, 1e-3), "near values are close");
    for (const double wrong : {1.01, 0.99, nan, infinite, -infinite})
        check(!is_close(wrong, 1.0, 1e-3), "a wrong value is refused");
    check(!is_close(nan, nan, 1.0) && !is_close(1.0, nan, 1.0), "NaN is refused");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const std::string folder = argv[1];
    try {
        comparison();
        const std::vector<Case> cases = read_cases(folder + "/cases.txt");
        for (const Case& c : cases) {
            closed_forms(c);
            formats(c);
            bad_frames(c);
        }
        calibrations(folder, cases.at(0), cases.at(1));
        pools(folder, cases.at(0));
        bad_models(folder, cases.at(0));
        engines(folder, cases.at(0));
    } catch (const std::exception& error) {
        std::cout << "wrong: " << error.what() << "\n";
        return 1;
    }
    std::cout << subject::name << ": " << checks << " checks, " << failures << " wrong\n";
    return failures == 0 ? 0 : 1;
}

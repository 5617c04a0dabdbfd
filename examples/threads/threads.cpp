// Many threads, one detector: threads MODEL THREADS FRAMES
#include <f2d2.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

namespace {

// What a thread did, or why it could not.
struct done {
    std::uint64_t frames = 0, invalid = 0;
    std::exception_ptr failure;
};

// Scores frames until none is left.
void work(const f2d2::detector& detector, std::atomic<long>& left, done& done) try {
    auto session = f2d2::session::create(detector);
    std::vector<std::uint8_t> pixels(64 * 48);
    while (true) {
        const long number = left.fetch_sub(1);
        if (number <= 0) break;
        for (std::size_t i = 0; i < pixels.size(); ++i)
            pixels[i] = static_cast<std::uint8_t>(i * static_cast<std::size_t>(number) % 251);
        session.score(f2d2::frame(pixels.data(), pixels.size(), f2d2::format::gray8, 64, 48));
    }
    const f2d2::stats stats = session.stats();
    done.frames = stats.frames;
    done.invalid = stats.invalid;
} catch (...) {
    done.failure = std::current_exception();
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::fprintf(stderr, "usage: threads MODEL THREADS FRAMES\n");
        return 2;
    }
    const std::size_t threads = std::strtoul(argv[2], nullptr, 10);
    std::atomic<long> left = std::strtol(argv[3], nullptr, 10);

    f2d2::detector_options options;
    options.threads = 1;  // The threads are ours.
    const auto detector = f2d2::detector::create(f2d2::model::open(argv[1]), options);
    detector.warm_up();

    const auto start = std::chrono::steady_clock::now();
    std::vector<done> results(threads);
    std::vector<std::thread> workers;
    for (done& result : results) workers.emplace_back([&] { work(detector, left, result); });
    for (std::thread& worker : workers) worker.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

    done sum;
    for (const done& result : results) {
        if (result.failure) std::rethrow_exception(result.failure);
        sum.frames += result.frames;
        sum.invalid += result.invalid;
    }
    std::printf("%llu frames on %zu threads, %llu invalid, %.1f frames/s\n", static_cast<unsigned long long>(sum.frames),
                threads, static_cast<unsigned long long>(sum.invalid), static_cast<double>(sum.frames) / seconds.count());
    return 0;
} catch (const f2d2::error& error) {
    std::fprintf(stderr, "%s (%s)\n", error.what(), error.hint().c_str());
    return 1;
}

// Times of scoring one frame, nanoseconds, one per line: latency MODEL FRAMES
#include <f2d2.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    f2d2::detector_options options;
    options.threads = 1;
    auto session = f2d2::session::create(f2d2::detector::create(f2d2::model::open(argv[1]), options));
    std::vector<std::uint8_t> pixels(28 * 28);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i % 251);
    const f2d2::frame frame(pixels.data(), pixels.size(), f2d2::format::gray8, 28, 28);
    for (int i = 0; i < 3; ++i) session.score(frame);
    for (long left = std::strtol(argv[2], nullptr, 10); left > 0; --left) {
        const auto start = std::chrono::steady_clock::now();
        session.score(frame);
        const std::chrono::nanoseconds time = std::chrono::steady_clock::now() - start;
        std::printf("%lld\n", static_cast<long long>(time.count()));
    }
    return 0;
}

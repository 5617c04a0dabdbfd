// f2d2.hpp where nothing is thrown: every call gives a result.
#include <f2d2.hpp>

#include <cstdio>
#include <cstring>
#include <thread>

static_assert(std::is_same_v<f2d2::outcome<f2d2::model>, f2d2::result<f2d2::model>>);

int main(int, char** argv) {
    int wrong = 0;
    const auto check = [&](bool good, const char* what) {
        if (!good) {
            ++wrong;
            std::printf("wrong: %s\n", what);
        }
    };
    const auto missing = f2d2::model::open("no such file");
    check(!missing && missing.error().status() == F2D2_IO, "a missing file");
    check(std::strstr(missing.error().what(), "F2D2_IO: cannot read") != nullptr, "its message");
    check(!missing.error().hint().empty() && !missing.error().source().empty(), "its hint and source");

    auto model = f2d2::model::open(argv[1]);
    check(bool(model), "the model opens");
    auto detector = f2d2::detector::create(*model);
    check(bool(detector), "the detector opens");
    auto session = f2d2::session::create(*detector);
    check(bool(session), "the session opens");

    const std::vector<std::uint8_t> pixels(28 * 28, 90);
    const f2d2::frame good(pixels.data(), pixels.size(), f2d2::format::gray8, 28, 28);
    const f2d2::frame bad(pixels.data(), pixels.size() - 1, f2d2::format::gray8, 28, 28);
    const auto scored = session->score(good);
    check(scored && scored->nll() == scored->nll(), "a frame is scored");
    const auto refused = session->score(bad);
    check(!refused && refused.error().status() == F2D2_INVALID_FRAME, "a short buffer is refused");
    const std::vector<f2d2::frame> frames{good, bad};
    std::vector<f2d2::inspection> inspections(2);
    check(bool(session->score(frames, inspections)), "a batch is scored");
    check(inspections[1].verdict() == f2d2::verdict::invalid, "a bad frame fails alone");
    const auto reason = session->reason(1);
    check(reason && reason->find("buffer length") != std::string::npos, "it has a reason");
    check(!session->statistics(1) && session->statistics(0)->size() > 1, "statistics of the good frame alone");
    check(!session->score(frames, {}), "too little room is refused");
    const auto calibration = session->calibrate();
    check(!calibration && calibration.error().status() == F2D2_TOO_FEW_IMAGES, "no images are too few");
    const auto piece = f2d2::model::open_from([](void*, std::size_t) { return std::size_t{0}; });
    check(!piece && piece.error().status() == F2D2_MODEL_CORRUPT, "an empty model");

    // A thread of the host, which ends with the last detector on it.
    auto host = f2d2::threads::of_host(1);
    auto work = host->take_work();
    const auto more = host->take_work();
    check(work && !more && more.error().status() == F2D2_INVALID_VALUE, "as much work as threads");
    std::thread worker([work = std::move(*work)]() mutable { (void)bool(work.run()); });
    {
        f2d2::detector_options options;
        options.pool = &*host;
        const auto mine = f2d2::detector::create(*model, options);
        const f2d2::threads gone = std::move(*host);
        auto own = f2d2::session::create(*mine);
        const auto same = own->score(good);
        check(same && same->nll() == scored->nll(), "a thread of the host scores alike");
        options.threads = 1;
        options.pool = &gone;
        const auto both = f2d2::detector::create(*model, options);
        check(!both && both.error().status() == F2D2_INVALID_OPTION, "a pool and a number");
    }
    worker.join();
    check(!f2d2::threads::of_host(0), "no threads of the host");
    std::puts(wrong == 0 ? "ok" : "wrong");
    return wrong == 0 ? 0 : 1;
}

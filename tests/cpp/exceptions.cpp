// What f2d2.hpp promises beyond the conformance suite: moves, order of destruction, logs, callbacks, BUSY, errors.
#include <f2d2.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#if __cplusplus >= 202002L
#include <span>
#endif

static_assert(!std::is_copy_constructible_v<f2d2::model> && std::is_nothrow_move_constructible_v<f2d2::model>);
static_assert(!std::is_copy_assignable_v<f2d2::session> && std::is_nothrow_move_assignable_v<f2d2::session>);
static_assert(!std::is_copy_constructible_v<f2d2::detector> && !std::is_copy_constructible_v<f2d2::calibration>);
static_assert(std::is_convertible_v<std::vector<f2d2::frame>&, f2d2::view<const f2d2::frame>>);
static_assert(!std::is_convertible_v<const std::vector<f2d2::inspection>&, f2d2::view<f2d2::inspection>>);

namespace {

int wrong = 0;

void check(bool good, const char* what) {
    if (!good) {
        ++wrong;
        std::printf("wrong: %s\n", what);
    }
}

template <class Call>
void fails(f2d2_status status, const char* what, Call&& call) {
    try {
        call();
        check(false, what);
    } catch (const f2d2::error& error) {
        check(error.status() == status, what);
        check(std::strstr(error.what(), f2d2_status_name(status)) != nullptr, what);
        check(!error.message().empty() || status == F2D2_OK, what);
    }
}

const std::vector<std::uint8_t> pixels = [] {
    std::vector<std::uint8_t> ramp(28 * 28);
    for (std::size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<std::uint8_t>(i % 28 * 9);
    return ramp;
}();
const f2d2::frame grey(pixels.data(), pixels.size(), f2d2::format::gray8, 28, 28);

}  // namespace

int main(int, char** argv) {
    const std::string path = argv[1];
    // Objects go in any order; a moved-from one is empty and says so.
    std::optional<f2d2::model> model = f2d2::model::open(path);
    f2d2::detector_options options;
    options.threads = 1;
    options.heat_maps = true;
    std::vector<std::string> said;
    options.log = [&](f2d2::level, const char* message) { said.emplace_back(message); };
    std::optional<f2d2::detector> detector = f2d2::detector::create(*model, options);
    check(said.size() == 1 && said[0].find("engine") == 0, "creating says which engine");
    model.reset();
    f2d2::session session = f2d2::session::create(*detector);
    const f2d2::inspection first = session.score(grey);
    detector.reset();
    f2d2::session moved = std::move(session);
    check(moved.score(grey).nll() == first.nll() && std::isfinite(first.nll()), "a session keeps what it needs");
    check(std::isnan(first.p_value()) && first.verdict() == f2d2::verdict::none, "no verdict without a calibration");
    check(first.steps() > 0 && std::strlen(first.engine()) > 0 && first.elapsed().count() > 0, "steps, engine and time");
    fails(F2D2_NULL_POINTER, "a moved-from session", [&] { session.score(grey); });
    session = std::move(moved);
    check(session.score(grey).nll() == first.nll(), "moved back");

    // Results of the last call.
    const std::vector<double> statistics = session.statistics();
    check(!statistics.empty() && session.statistic(session.statistic_name(0)) == statistics[0], "statistics");
    check(session.reason().empty(), "no reason");
    fails(F2D2_INVALID_VALUE, "a statistic that there is not", [&] { session.statistic("none"); });
    fails(F2D2_INVALID_VALUE, "an index beyond the last call", [&] { session.reason(1); });
    f2d2::heat_map map = session.heat_map();
    check(map.width == 28 && map.height == 28 && map.values.size() == 784, "size of the heat map");
    const float* const place = map.values.data();
    session.heat_map_into(map);
    check(map.values.data() == place, "a heat map is used again");

    // Batches through views of every kind of array.
    const std::array<f2d2::frame, 2> two{grey, grey.region(0, 0, 14, 14)};
    std::vector<f2d2::inspection> inspections(2);
    session.score(two, inspections);
    check(inspections[0].nll() == first.nll() && inspections[1].nll() != first.nll(), "a batch");
#if __cplusplus >= 202002L
    session.score(std::span<const f2d2::frame>(two), std::span<f2d2::inspection>(inspections));
#endif
    session.score({two.data(), 1}, {inspections.data(), 1});
    session.score({}, {});
    fails(F2D2_INVALID_VALUE, "too little room", [&] { session.score(two, {inspections.data(), 1}); });

    f2d2::cancel cancel = f2d2::cancel::create();
    cancel.set();
    fails(F2D2_CANCELLED, "a set flag", [&] { session.score(two, inspections, &cancel); });
    cancel.reset();
    session.score(two, inspections, &cancel);

    const f2d2::stats stats = session.stats();
    check(stats.calls >= 5 && stats.frames == stats.unjudged, "counters");
    check(stats.quantile(0.5) <= stats.quantile(1.0) && stats.quantile(0.0).count() > 0, "quantiles");
    fails(F2D2_INVALID_VALUE, "a quantile above 1", [&] { stats.quantile(1.5); });

    // A log that calls the session that is at work, and one that throws: neither gets through.
    const f2d2::model again = f2d2::model::open(path);
    const f2d2::detector plain = f2d2::detector::create(again);
    std::optional<f2d2::session> busy;
    int messages = 0;
    f2d2::session_options loud;
    loud.log_level = f2d2::level::debug;
    loud.log = [&](f2d2::level level, const char*) {
        ++messages;
        check(level == f2d2::level::debug, "level of a scored frame");
        fails(F2D2_BUSY, "a session in its own log", [&] { busy->score(grey); });
        throw std::runtime_error("not for C");
    };
    busy = f2d2::session::create(plain, loud);
    check(busy->score(grey).nll() == first.nll() && messages == 1, "one message");
    fails(F2D2_UNAVAILABLE, "a heat map that was not asked for", [&] { busy->heat_map(); });

    // A model that comes piece by piece, and a reader that gives up.
    std::ifstream file(path, std::ios::binary);
    const f2d2::model streamed = f2d2::model::open_from([&](void* buffer, std::size_t capacity) {
        return static_cast<std::size_t>(
            file.read(static_cast<char*>(buffer), static_cast<std::streamsize>(std::min<std::size_t>(capacity, 1000))).gcount());
    });
    check(std::strcmp(streamed.info().hash, again.info().hash) == 0, "the same model");
    fails(F2D2_CALLBACK_FAILED, "a reader that throws", [] {
        f2d2::model::open_from([](void*, std::size_t) -> std::size_t { throw std::runtime_error("gone"); });
    });

    // Engines, warm-up, samples, calibrations.
    check(std::strlen(plain.engine().reason) > 0 && plain.engine().threads > 0, "engine report");
    plain.warm_up();
    plain.self_test();
    options.engine = "steam";
    fails(F2D2_INVALID_OPTION, "an engine that there is not", [&] { f2d2::detector::create(again, options); });
    fails(F2D2_TOO_FEW_IMAGES, "two images", [&] { plain.calibrate(two); });
    check(f2d2::calibration::minimum_images() == 598, "the default rates take 598 images");
    fails(F2D2_IO, "a calibration that is not there", [] { f2d2::calibration::load("no such file"); });
    if (again.info().samples != 0) {
        const f2d2::sampler sampler = f2d2::sampler::create(again);
        check(sampler.draw(2, 0, 7).size() == 2 * 784 && sampler.draw(0, 0, 7).empty(), "samples");
        check(sampler.draw_guided(2, 0, 7, 0.1) != sampler.draw(2, 0, 7), "guided samples");
        fails(F2D2_INVALID_OPTION, "a learning rate of 0", [&] { sampler.draw_guided(2, 0, 7, 0); });
    }
    std::puts(wrong == 0 ? "ok" : "wrong");
    return wrong == 0 ? 0 : 1;
}

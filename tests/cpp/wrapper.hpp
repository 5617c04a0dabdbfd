// The header f2d2.hpp as a subject of the conformance suite.
#include "subject.hpp"

#include <f2d2.hpp>

namespace subject {

inline const char* const name = "wrapper";

template <class Call>
auto caught(Call&& call) {
    try {
        return call();
    } catch (const f2d2::error& error) {
        throw Failure(static_cast<std::uint32_t>(error.status()), error.what());
    }
}

inline f2d2::frame frame(const Image& image) {
    // The numbers of the header begin with 1.
    const auto format = static_cast<f2d2::format>(image.format + 1);
    const f2d2::frame whole(image.data, image.length, format, image.width, image.height, image.stride);
    const auto [x, y, width, height] = image.region;
    return whole.region(x, y, width, height);
}

inline std::vector<f2d2::frame> frames(const std::vector<Image>& images) {
    std::vector<f2d2::frame> all;
    for (const Image& image : images) all.push_back(frame(image));
    return all;
}

inline f2d2::model model(const std::string& bytes, const f2d2::limits& limits) {
    return caught([&] { return f2d2::model::open_memory(bytes.data(), bytes.size(), limits); });
}

class Pool {
  public:
    static Pool none() { return Pool(caught([] { return f2d2::threads::none(); })); }
    static Pool shared(std::uint32_t count) { return Pool(caught([&] { return f2d2::threads::create(count); })); }
    static Pool of_host(std::uint32_t count) { return Pool(caught([&] { return f2d2::threads::of_host(count); })); }

    // Lets a new thread do a part of the work.
    std::thread start() {
        return std::thread([work = caught([&] { return threads_.take_work(); })]() mutable { work.run(); });
    }

    const f2d2::threads* get() const { return &threads_; }

  private:
    explicit Pool(f2d2::threads threads) : threads_(std::move(threads)) {}
    f2d2::threads threads_;
};

class Opened {
  public:
    Opened(const std::string& bytes, std::size_t steps, const std::vector<double>& floors, bool heat_maps,
           const Pool* pool = nullptr, std::uint32_t threads = 1)
        : heat_maps_(heat_maps), pool_(pool), model_(model(bytes, {})), detector_(caught([&] {
              f2d2::detector_options options;
              options.threads = pool == nullptr || threads != 1 ? threads : 0;
              if (pool != nullptr) options.pool = pool->get();
              options.steps = static_cast<std::uint32_t>(steps);
              options.heat_maps = heat_maps;
              options.noise_floors = floors;
              return f2d2::detector::create(model_, options);
          })),
          session_(caught([&] { return f2d2::session::create(detector_); })) {}

    Scored score(const Image& image) {
        return caught([&] { return scored(session_.score(frame(image)), 0); });
    }

    std::vector<Scored> score(const std::vector<Image>& images) {
        return caught([&] {
            std::vector<f2d2::inspection> inspections(images.size());
            session_.score(frames(images), inspections);
            std::vector<Scored> results;
            for (std::size_t i = 0; i < images.size(); ++i) results.push_back(scored(inspections[i], i));
            return results;
        });
    }

    std::string calibrate(const std::vector<Image>& images, double alpha, double delta, std::uint64_t seed) {
        return caught([&] {
            f2d2::calibration_options options;
            options.alpha = alpha;
            options.delta = delta;
            options.seed = seed;
            const std::string json = detector_.calibrate(frames(images), options).to_json();
            // Frame by frame, as somebody does who cannot hold them all.
            for (const Image& image : images) session_.collect(frame(image));
            if (session_.calibrate(options).to_json() != json) throw Failure(0, "collecting gives another calibration");
            return json;
        });
    }

    void use_calibration(const std::string& json) {
        caught([&] {
            detector_ = detector_.calibrated(f2d2::calibration::from_json(json));
            session_ = f2d2::session::create(detector_);
        });
    }

    std::vector<std::vector<std::uint8_t>> sample(std::size_t n, std::size_t steps, std::uint64_t seed) const {
        return split(caught([&] { return sampler().draw(n, static_cast<std::uint32_t>(steps), seed); }));
    }

    bool guides() const {
        return caught([&] { return model_.info(); }).guides == 1;
    }

    std::vector<std::vector<std::uint8_t>> guided(std::size_t n, std::size_t steps, std::uint64_t seed,
                                                  double rate) const {
        return split(
            caught([&] { return sampler().draw_guided(n, static_cast<std::uint32_t>(steps), seed, rate); }));
    }

  private:
    f2d2::sampler sampler() const {
        f2d2::sampler_options options;
        if (pool_ == nullptr)
            options.threads = 1;
        else
            options.pool = pool_->get();
        return f2d2::sampler::create(model_, options);
    }

    std::vector<std::vector<std::uint8_t>> split(const std::vector<std::uint8_t>& values) const {
        const f2d2_model_info info = caught([&] { return model_.info(); });
        const auto length = static_cast<std::ptrdiff_t>(std::size_t{info.channels} * info.height * info.width);
        std::vector<std::vector<std::uint8_t>> images;
        for (auto first = values.begin(); first != values.end(); first += length)
            images.emplace_back(first, first + length);
        return images;
    }

    Scored scored(const f2d2::inspection& inspection, std::size_t index) {
        Scored scored;
        scored.verdict = static_cast<Verdict>(inspection.verdict());
        scored.reason = session_.reason(index);
        scored.score = inspection.score();
        scored.p_value = inspection.p_value();
        scored.nll = inspection.nll();
        scored.bpd = inspection.bpd();
        if (inspection.verdict() == f2d2::verdict::invalid) return scored;
        const std::vector<double> values = session_.statistics(index);
        for (std::size_t i = 0; i < values.size(); ++i) {
            const std::string statistic = session_.statistic_name(i, index);
            scored.statistics[statistic] = values[i];
            if (session_.statistic(statistic, index) != values[i]) throw Failure(0, statistic + " has two values");
        }
        if (heat_maps_) scored.heat_map = session_.heat_map(index).values;
        return scored;
    }

    bool heat_maps_;
    const Pool* pool_;
    f2d2::model model_;
    f2d2::detector detector_;
    f2d2::session session_;
};

template <class Options>
Options options(const Asked& asked) {
    Options options;
    options.engine = asked.engine;
    options.adapter = asked.adapter;
    options.precision = asked.f16 ? "f16" : "f32";
    options.background = asked.background;
    options.cpu_on_loss = asked.cpu_on_loss;
    return options;
}

inline Used engine(const std::string& bytes, const Asked& asked) {
    return caught([&] {
        const f2d2_engine_report report =
            f2d2::detector::create(model(bytes, {}), options<f2d2::detector_options>(asked)).engine();
        return Used{report.engine, report.precision};
    });
}

inline void sampler(const std::string& bytes, const Asked& asked) {
    caught([&] {
        return f2d2::sampler::create(model(bytes, {}), options<f2d2::sampler_options>(asked)).draw(1, 1, 0);
    });
}

inline void open_file(const std::string& path) {
    caught([&] { return f2d2::model::open(path); });
}

inline void open_limited(const std::string& bytes, std::uint64_t file_bytes) {
    f2d2::limits limits;
    limits.file_bytes = file_bytes;
    model(bytes, limits);
}

}  // namespace subject

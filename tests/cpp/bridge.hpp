// The cxx bridge as a subject of the conformance suite.
#include "subject.hpp"

#include "rust/cxx.h"

#include "f2d2-cxx/src/lib.rs.h"

namespace subject {

namespace bridge = f2d2::bridge;

inline const char* const name = "bridge";

template <class Call>
auto caught(Call&& call) {
    try {
        return call();
    } catch (const rust::Error& error) {
        throw Failure(bridge::error_code(error.what()), error.what());
    }
}

inline bridge::Frame frame(const Image& image) {
    bridge::Frame frame{};
    frame.pixels = {image.data, image.length};
    frame.format = static_cast<bridge::PixelFormat>(image.format);
    frame.width = image.width;
    frame.height = image.height;
    frame.stride = image.stride;
    frame.roi = {image.region.x, image.region.y, image.region.width, image.region.height};
    return frame;
}

inline std::vector<bridge::Frame> frames(const std::vector<Image>& images) {
    std::vector<bridge::Frame> all;
    for (const Image& image : images) all.push_back(frame(image));
    return all;
}

inline Scored scored(const bridge::Inspection& inspection) {
    Scored scored;
    scored.verdict = static_cast<Verdict>(inspection.verdict);
    scored.reason = std::string(inspection.reason);
    scored.score = inspection.score;
    scored.p_value = inspection.p_value;
    scored.nll = inspection.nll;
    scored.bpd = inspection.bpd;
    for (const bridge::Statistic& s : inspection.statistics) scored.statistics[std::string(s.name)] = s.value;
    scored.heat_map.assign(inspection.heat_map.begin(), inspection.heat_map.end());
    return scored;
}

inline rust::Box<bridge::Model> model(const std::string& bytes, const bridge::Limits& limits) {
    const rust::Slice<const std::uint8_t> slice{reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
    return caught([&] { return bridge::model_from_bytes("test", slice, limits); });
}

class Pool {
  public:
    static Pool none() { return Pool(bridge::threads_none()); }
    static Pool shared(std::size_t count) { return Pool(caught([&] { return bridge::threads_shared(count); })); }
    static Pool of_host(std::size_t count) { return Pool(caught([&] { return bridge::threads_of_host(count); })); }

    // Lets a new thread do a part of the work.
    std::thread start() {
        return std::thread([work = caught([&] { return threads_->take_work(); })]() mutable {
            bridge::work_run(std::move(work));
        });
    }

    const bridge::Threads& get() const { return *threads_; }

  private:
    explicit Pool(rust::Box<bridge::Threads> threads) : threads_(std::move(threads)) {}
    rust::Box<bridge::Threads> threads_;
};

class Opened {
  public:
    Opened(const std::string& bytes, std::size_t steps, const std::vector<double>& floors, bool heat_maps,
           const Pool* pool = nullptr, std::size_t threads = 1)
        : pool_(pool), model_(model(bytes, bridge::limits())), detector_(caught([&] {
              bridge::DetectorOptions options = bridge::detector_options();
              options.steps = steps;
              options.threads = pool == nullptr || threads != 1 ? threads : 0;
              options.heat_maps = heat_maps;
              for (const double floor : floors) options.noise_floors.push_back(floor);
              return pool == nullptr ? bridge::detector_new(*model_, options)
                                     : bridge::detector_on(*model_, options, pool->get());
          })) {}

    Scored score(const Image& image) const {
        return scored(caught([&] { return detector_->inspect(frame(image)); }));
    }

    std::vector<Scored> score(const std::vector<Image>& images) const {
        const std::vector<bridge::Frame> all = frames(images);
        std::vector<Scored> results;
        for (const bridge::Inspection& inspection :
             caught([&] { return detector_->inspect_batch({all.data(), all.size()}); }))
            results.push_back(scored(inspection));
        return results;
    }

    std::string calibrate(const std::vector<Image>& images, double alpha, double delta, std::uint64_t seed) const {
        const std::vector<bridge::Frame> all = frames(images);
        return caught([&] {
            const auto calibration = detector_->calibrate({all.data(), all.size()}, {alpha, delta, seed});
            return std::string(calibration->to_json());
        });
    }

    void use_calibration(const std::string& json) {
        caught([&] { detector_->set_calibration(*bridge::calibration_from_json(json)); });
    }

    std::vector<std::vector<std::uint8_t>> sample(std::size_t n, std::size_t steps, std::uint64_t seed) const {
        return split(caught([&] { return sampler()->draw(n, steps, seed); }));
    }

    bool guides() const { return model_->guides(); }

    std::vector<std::vector<std::uint8_t>> guided(std::size_t n, std::size_t steps, std::uint64_t seed,
                                                  double rate) const {
        return split(caught([&] { return sampler()->draw_guided(n, steps, seed, rate); }));
    }

  private:
    rust::Box<bridge::Sampler> sampler() const {
        return pool_ == nullptr ? bridge::sampler_new(*model_, bridge::engine_options(), 1)
                                : bridge::sampler_on(*model_, bridge::engine_options(), pool_->get());
    }

    std::vector<std::vector<std::uint8_t>> split(const rust::Vec<std::uint8_t>& values) const {
        const bridge::Shape shape = model_->shape();
        const auto length = static_cast<std::ptrdiff_t>(shape.channels * shape.height * shape.width);
        std::vector<std::vector<std::uint8_t>> images;
        for (auto first = values.begin(); first != values.end(); first += length)
            images.emplace_back(first, first + length);
        return images;
    }

    const Pool* pool_;
    rust::Box<bridge::Model> model_;
    rust::Box<bridge::Detector> detector_;
};

inline bridge::EngineOptions options(const Asked& asked) {
    bridge::EngineOptions options = bridge::engine_options();
    options.choice = asked.engine == "cpu"     ? bridge::Engine::Cpu
                     : asked.engine == "gpu"   ? bridge::Engine::Gpu
                     : asked.engine == "tract" ? bridge::Engine::Tract
                                               : static_cast<bridge::Engine>(99);
    options.adapter = asked.adapter;
    options.precision = asked.f16 ? bridge::Precision::F16 : bridge::Precision::F32;
    options.background = asked.background;
    options.cpu_on_loss = asked.cpu_on_loss;
    return options;
}

inline Used engine(const std::string& bytes, const Asked& asked) {
    return caught([&] {
        bridge::DetectorOptions wanted = bridge::detector_options();
        wanted.engine = options(asked);
        const bridge::EngineReport report = bridge::detector_new(*model(bytes, bridge::limits()), wanted)->engine();
        return Used{std::string(report.engine), std::string(report.precision)};
    });
}

inline void sampler(const std::string& bytes, const Asked& asked) {
    caught([&] { return bridge::sampler_new(*model(bytes, bridge::limits()), options(asked), 1)->draw(1, 1, 0); });
}

inline void open_file(const std::string& path) {
    caught([&] { return bridge::model_open(path, bridge::limits()); });
}

inline void open_limited(const std::string& bytes, std::uint64_t file_bytes) {
    bridge::Limits limits = bridge::limits();
    limits.file_bytes = file_bytes;
    model(bytes, limits);
}

}  // namespace subject

// C++17 over f2d2.h, in this header alone: owning handles, views, errors.
//
// A failing call throws f2d2::error. Where exceptions are off, or F2D2_NO_EXCEPTIONS is defined, it gives an
// f2d2::result<T> instead of a T; everything else is the same. Objects are moved, not copied; frames are never copied.
// Objects may go in any order: a session keeps what it needs.
//
// Threads: models, detectors, samplers, calibrations and threads may be used from any number of threads at once, a
// session from one at a time.
#ifndef F2D2_HPP
#define F2D2_HPP

#include "f2d2.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if !defined(F2D2_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define F2D2_NO_EXCEPTIONS
#endif

namespace f2d2 {

// One program may contain parts that are compiled with exceptions and parts without: they are different types.
#ifdef F2D2_NO_EXCEPTIONS
inline namespace without_exceptions {
#else
inline namespace with_exceptions {
#endif

/// Why a call failed.
class error : public std::exception {
  public:
    /// The last failure of this thread.
    static error last(f2d2_status status) {
        f2d2_error record{};
        record.struct_size = sizeof record;
        if (f2d2_last_error(&record) != F2D2_OK || record.status != status) return error(status, "");
        return error(status, record.message, record.source, record.hint);
    }

    /// F2D2_BUSY and the like, from f2d2.h.
    f2d2_status status() const noexcept { return status_; }
    /// What was got and what was needed.
    const std::string& message() const noexcept { return message_; }
    /// The cause further down; may be empty.
    const std::string& source() const noexcept { return source_; }
    /// What to do about it; may be empty.
    const std::string& hint() const noexcept { return hint_; }
    /// Name of the status and the message.
    const char* what() const noexcept override { return what_.c_str(); }

    /// A failure that the library did not see itself.
    error(f2d2_status status, std::string message, std::string source = "", std::string hint = "")
        : status_(status), message_(std::move(message)), source_(std::move(source)), hint_(std::move(hint)),
          what_(std::string(f2d2_status_name(status)) + ": " + message_) {}

  private:
    f2d2_status status_;
    std::string message_, source_, hint_, what_;
};

/// A value, or why there is none. Looking at what is not there ends the program.
template <class T>
class [[nodiscard]] result {
  public:
    result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    result(f2d2::error error) : content_(std::in_place_index<1>, std::move(error)) {}

    /// Whether there is a value.
    explicit operator bool() const noexcept { return content_.index() == 0; }
    T& operator*() & { return *get<0>(); }
    const T& operator*() const& { return *get<0>(); }
    T&& operator*() && { return std::move(*get<0>()); }
    T* operator->() { return get<0>(); }
    const T* operator->() const { return get<0>(); }
    /// Why there is no value.
    const f2d2::error& error() const { return *get<1>(); }

  private:
    template <std::size_t I>
    auto* get() { return present(std::get_if<I>(&content_)); }
    template <std::size_t I>
    const auto* get() const { return present(std::get_if<I>(&content_)); }
    template <class U>
    static U* present(U* content) {
        if (content == nullptr) std::abort();
        return content;
    }

    std::variant<T, f2d2::error> content_;
};

/// Success, or why not.
template <>
class [[nodiscard]] result<void> {
  public:
    result() = default;
    result(f2d2::error error) : content_(std::in_place_index<1>, std::move(error)) {}

    /// Whether it worked.
    explicit operator bool() const noexcept { return content_.index() == 0; }
    /// Why it did not.
    const f2d2::error& error() const {
        const auto* error = std::get_if<1>(&content_);
        if (error == nullptr) std::abort();
        return *error;
    }

  private:
    std::variant<std::monostate, f2d2::error> content_;
};

/// What a call gives: a T; without exceptions a result<T>.
#ifdef F2D2_NO_EXCEPTIONS
template <class T>
using outcome = result<T>;
#else
template <class T>
using outcome = T;
#endif

namespace detail {

/// A failure that was found here.
template <class T>
outcome<T> fail(error error) {
#ifdef F2D2_NO_EXCEPTIONS
    return error;
#else
    throw error;
#endif
}

/// What `make` gives, if the call before worked.
template <class Make>
auto after(f2d2_status status, Make&& make) -> outcome<decltype(make())> {
    if (status != F2D2_OK) return fail<decltype(make())>(error::last(status));
    return make();
}

/// Success, if the call before worked.
inline outcome<void> after(f2d2_status status) {
    if (status != F2D2_OK) return fail<void>(error::last(status));
    return outcome<void>();
}

/// A struct of f2d2.h that knows its size; everything else is zero, the default.
template <class Struct>
struct sized : Struct {
    sized() noexcept : Struct{} { this->struct_size = sizeof(Struct); }
};

/// The fields that the options of detectors and samplers share.
template <class Raw, class Options>
void engine(Raw& raw, const Options& options) noexcept {
    raw.threads = options.threads;
    raw.pool = options.pool == nullptr ? nullptr : options.pool->get();
    raw.engine = options.engine.c_str();
    raw.adapter = options.adapter.empty() ? nullptr : options.adapter.c_str();
    raw.precision = options.precision.c_str();
    raw.background = options.background ? 1 : 0;
    raw.cpu_on_loss = options.cpu_on_loss ? 1 : 0;
}

/// The owner of a handle.
template <class Object, f2d2_status (*Destroy)(Object*)>
class handle {
  public:
    handle() = default;

    /// Where a function of f2d2.h puts a new handle; called once.
    Object** place() noexcept { return &object_; }
    /// The handle; null after it was moved from.
    Object* get() const noexcept { return object_; }
    /// The handle, for a function that takes it back.
    Object* release() noexcept { return std::exchange(object_, nullptr); }

    handle(const handle&) = delete;
    handle& operator=(const handle&) = delete;
    handle(handle&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    handle& operator=(handle&& other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    ~handle() { (void)Destroy(object_); }

  private:
    Object* object_ = nullptr;
};

}  // namespace detail

/// Objects of somebody else that lie side by side; std::span where that is too new.
template <class T>
class view {
  public:
    view() = default;
    view(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    /// All elements of a vector, an array, a span.
    template <class Range, class = std::enable_if_t<std::is_convertible_v<
                               std::remove_pointer_t<decltype(std::declval<Range&>().data())> (*)[], T (*)[]>>>
    view(Range&& range) noexcept : data_(range.data()), size_(range.size()) {}

    T* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    T* begin() const noexcept { return data_; }
    T* end() const noexcept { return data_ + size_; }
    T& operator[](std::size_t i) const { return data_[i]; }

  private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// What a model file may ask for. Zero is the default of each.
using limits = detail::sized<f2d2_limits>;
/// What a calibration shall promise. Zero is the default of each.
using calibration_options = detail::sized<f2d2_calibration_options>;

/// How pixels lie in memory; see f2d2.h for each.
enum class format : std::uint32_t {
    gray8 = F2D2_FORMAT_GRAY8,
    gray16 = F2D2_FORMAT_GRAY16,
    rgb8 = F2D2_FORMAT_RGB8,
    bgr8 = F2D2_FORMAT_BGR8,
    rgba8 = F2D2_FORMAT_RGBA8,
    bgra8 = F2D2_FORMAT_BGRA8,
    gray_f32 = F2D2_FORMAT_GRAY_F32,
    rgb_f32 = F2D2_FORMAT_RGB_F32,
};

/// A borrowed image: a description of pixels, which have to stay as they are during the calls that get it.
class frame {
  public:
    /// `size` bytes at `data`, rows every `stride` bytes; 0 if rows follow each other without padding.
    frame(const void* data, std::size_t size, f2d2::format format, std::uint32_t width, std::uint32_t height,
          std::size_t stride = 0) noexcept {
        raw_.data = data;
        raw_.size = size;
        raw_.format = static_cast<std::uint32_t>(format);
        raw_.width = width;
        raw_.height = height;
        raw_.stride = stride;
    }

    /// The same frame restricted to a rectangle of pixels.
    frame region(std::uint32_t x, std::uint32_t y, std::uint32_t width, std::uint32_t height) const noexcept {
        frame part = *this;
        part.raw_.roi_x = x;
        part.raw_.roi_y = y;
        part.raw_.roi_width = width;
        part.raw_.roi_height = height;
        return part;
    }

    /// As f2d2.h knows it.
    const f2d2_frame* get() const noexcept { return &raw_; }

  private:
    detail::sized<f2d2_frame> raw_;
};

/// The answer for one image.
enum class verdict : std::uint32_t {
    /// There is no calibration to judge by.
    none = F2D2_VERDICT_NONE,
    /// Not unlike the normal images, at the calibrated false-alarm rate.
    normal = F2D2_VERDICT_NORMAL,
    /// Unlike the normal images.
    anomalous = F2D2_VERDICT_ANOMALOUS,
    /// It cannot be judged. Never to be treated as normal.
    invalid = F2D2_VERDICT_INVALID,
};

/// The name of a verdict.
inline const char* to_string(verdict verdict) noexcept {
    switch (verdict) {
    case verdict::none: return "none";
    case verdict::normal: return "normal";
    case verdict::anomalous: return "anomalous";
    case verdict::invalid: return "invalid";
    }
    return "unknown";
}

/// How important a message is.
enum class level : std::uint32_t {
    /// Something failed.
    error = F2D2_LOG_ERROR,
    /// A frame could not be judged or was left out.
    warning = F2D2_LOG_WARNING,
    /// What was chosen, and what is done.
    info = F2D2_LOG_INFO,
    /// Every frame.
    debug = F2D2_LOG_DEBUG,
};

/// Receives messages, on the thread of the call that they are about. Exceptions that leave it are dropped.
using log_function = std::function<void(level, const char* message)>;

namespace detail {

// C calls these: nothing may leave them.
inline void log(void* function, std::uint32_t level, const char* message) noexcept {
    const auto& log = *static_cast<const log_function*>(function);
#ifdef F2D2_NO_EXCEPTIONS
    log(static_cast<f2d2::level>(level), message);
#else
    try {
        log(static_cast<f2d2::level>(level), message);
    } catch (...) {
    }
#endif
}

template <class Read>
std::int32_t read(void* function, void* buffer, std::size_t capacity, std::size_t* count) noexcept {
    auto& read = *static_cast<Read*>(function);
#ifdef F2D2_NO_EXCEPTIONS
    *count = read(buffer, capacity);
    return 0;
#else
    try {
        *count = read(buffer, capacity);
        return 0;
    } catch (...) {
        return 1;
    }
#endif
}

/// Text or numbers from a function that is asked for their number first.
template <class Values, class Call>
outcome<Values> all(Call&& call) {
    std::size_t needed = 0;
    const f2d2_status asked = call(static_cast<typename Values::value_type*>(nullptr), 0, &needed);
    if (asked != F2D2_OK) return fail<Values>(error::last(asked));
    Values values(needed, typename Values::value_type{});
    return after(call(values.data(), values.size(), &needed), [&] { return std::move(values); });
}

/// The same for text, which comes with a NUL.
template <class Call>
outcome<std::string> text(Call&& call) {
    auto text = all<std::string>(call);
#ifdef F2D2_NO_EXCEPTIONS
    if (text) text->resize(text->size() - 1);
#else
    text.resize(text.size() - 1);
#endif
    return text;
}

}  // namespace detail

/// A model that was read and checked.
class model {
  public:
    /// Opens a model file.
    static outcome<model> open(const std::string& path, const f2d2::limits& bounds = {}) {
        model opened;
        return detail::after(f2d2_model_open(path.c_str(), &bounds, opened.handle_.place()),
                             [&] { return std::move(opened); });
    }

    /// Opens a model that is in memory; the bytes are read during the call only.
    static outcome<model> open_memory(const void* data, std::size_t size, const f2d2::limits& bounds = {}) {
        model opened;
        return detail::after(f2d2_model_open_memory(data, size, &bounds, opened.handle_.place()),
                             [&] { return std::move(opened); });
    }

    /// Opens a model that `read(buffer, capacity)` gives piece by piece, a void* and a size_t. It writes to the buffer and
    /// returns how many bytes, 0 at the end. An exception of it becomes F2D2_CALLBACK_FAILED.
    template <class Read>
    static outcome<model> open_from(Read read, const f2d2::limits& bounds = {}) {
        model opened;
        return detail::after(f2d2_model_open_callback(&detail::read<Read>, &read, &bounds, opened.handle_.place()),
                             [&] { return std::move(opened); });
    }

    /// What it says about itself.
    outcome<f2d2_model_info> info() const {
        detail::sized<f2d2_model_info> info;
        return detail::after(f2d2_model_get_info(handle_.get(), &info), [&] { return f2d2_model_info(info); });
    }

    /// As f2d2.h knows it.
    const f2d2_model* get() const noexcept { return handle_.get(); }

  private:
    detail::handle<f2d2_model, f2d2_model_destroy> handle_;
};

/// A flag that long calls look at between frames. Any thread may set it.
class cancel {
  public:
    /// A flag that is not set.
    static outcome<cancel> create() {
        cancel created;
        return detail::after(f2d2_cancel_create(created.handle_.place()), [&] { return std::move(created); });
    }

    /// Calls that were given the flag end with F2D2_CANCELLED before their next frames.
    outcome<void> set() { return detail::after(f2d2_cancel_set(handle_.get())); }
    /// Clears the flag, to use it again.
    outcome<void> reset() { return detail::after(f2d2_cancel_reset(handle_.get())); }

    /// As f2d2.h knows it.
    const f2d2_cancel* get() const noexcept { return handle_.get(); }

  private:
    detail::handle<f2d2_cancel, f2d2_cancel_destroy> handle_;
};

/// What one thread of the host has to do, once. The other threads go on without if it is destroyed before that.
class work {
  public:
    /// Works until the threads are no longer used; returns then.
    outcome<void> run() { return detail::after(f2d2_work_run(handle_.release())); }

  private:
    friend class threads;
    detail::handle<f2d2_work, f2d2_work_destroy> handle_;
};

/// Threads that any number of detectors and samplers may share. They end soon after the last of all that use them went.
class threads {
  public:
    /// Threads of the library, 0 for one per core. Whoever asks for as many gets the same ones while they live.
    static outcome<threads> create(std::uint32_t count = 0) {
        threads created;
        return detail::after(f2d2_threads_create(count, created.handle_.place()), [&] { return std::move(created); });
    }

    /// No threads: every call does its own work.
    static outcome<threads> none() {
        threads created;
        return detail::after(f2d2_threads_create_none(created.handle_.place()), [&] { return std::move(created); });
    }

    /// `count` threads of the host, 1 to 1024. Each has to take_work and run it, with a stack of 2 MiB; until one of them
    /// does, calls that need the threads wait.
    static outcome<threads> of_host(std::uint32_t count) {
        threads created;
        return detail::after(f2d2_threads_create_host(count, created.handle_.place()),
                             [&] { return std::move(created); });
    }

    /// The work of one thread of the host, as often as there are threads.
    outcome<work> take_work() {
        work taken;
        return detail::after(f2d2_threads_take_work(handle_.get(), taken.handle_.place()),
                             [&] { return std::move(taken); });
    }

    /// As f2d2.h knows it.
    const f2d2_threads* get() const noexcept { return handle_.get(); }

  private:
    detail::handle<f2d2_threads, f2d2_threads_destroy> handle_;
};

/// What normal images score, with a threshold.
class calibration {
  public:
    /// Reads a calibration file.
    static outcome<calibration> load(const std::string& path) {
        calibration loaded;
        return detail::after(f2d2_calibration_load(path.c_str(), loaded.handle_.place()),
                             [&] { return std::move(loaded); });
    }

    /// Reads the text of a calibration file.
    static outcome<calibration> from_json(const std::string& json) {
        calibration loaded;
        return detail::after(f2d2_calibration_load_memory(json.data(), json.size(), loaded.handle_.place()),
                             [&] { return std::move(loaded); });
    }

    /// How many normal images it takes at least.
    static outcome<std::size_t> minimum_images(const calibration_options& options = {}) {
        std::size_t images = 0;
        return detail::after(f2d2_calibration_minimum_images(&options, &images), [&] { return images; });
    }

    /// Writes a calibration file; an older one is replaced as a whole.
    outcome<void> save(const std::string& path) const {
        return detail::after(f2d2_calibration_save(handle_.get(), path.c_str()));
    }

    /// The text of a calibration file.
    outcome<std::string> to_json() const {
        return detail::text([&](char* buffer, std::size_t capacity, std::size_t* needed) {
            return f2d2_calibration_save_memory(handle_.get(), buffer, capacity, needed);
        });
    }

    /// What it promises and what it was made from.
    outcome<f2d2_calibration_info> info() const {
        detail::sized<f2d2_calibration_info> info;
        return detail::after(f2d2_calibration_get_info(handle_.get(), &info),
                             [&] { return f2d2_calibration_info(info); });
    }

    /// As f2d2.h knows it.
    const f2d2_calibration* get() const noexcept { return handle_.get(); }

  private:
    friend class detector;
    friend class session;
    detail::handle<f2d2_calibration, f2d2_calibration_destroy> handle_;
};

/// How a detector is set up.
struct detector_options {
    /// Images evaluated side by side; 0 is one per core.
    std::uint32_t threads = 0;
    /// Network evaluations per noise floor; 0 takes the model's recommendation.
    std::uint32_t steps = 0;
    /// Whether sessions can give heat maps.
    bool heat_maps = false;
    /// Whether the engine is checked against the model's golden vectors.
    bool self_test = true;
    /// Noise floors, each in (0, 1], each once; none takes the model's recommendation.
    std::vector<double> noise_floors;
    /// "auto", "cpu", "gpu" or one of the names that a report gives.
    std::string engine = "auto";
    /// PCI bus id of the graphics adapter to use, or a part of its name; empty for any.
    std::string adapter;
    /// "f32" or "f16": 16-bit weights, and on a GPU activations.
    std::string precision = "f32";
    /// Whether the CPU serves while the GPU compiles.
    bool background = false;
    /// Whether the CPU takes over from a GPU that is lost for good.
    bool cpu_on_loss = false;
    /// What to judge by, copied; null for no verdicts.
    const f2d2::calibration* calibration = nullptr;
    /// Receives messages about creating and calibrating.
    log_function log;
    /// Least important level that it gets.
    level log_level = level::info;
    /// Threads to use in place of `threads` ones, which is 0 then; null for those. They may go afterwards.
    const f2d2::threads* pool = nullptr;
};

/// A model on an engine, with a calibration to judge by or without.
class detector {
  public:
    /// Puts a model on an engine. The model may go afterwards.
    static outcome<detector> create(const model& model, const detector_options& options = {}) {
        detail::sized<f2d2_detector_options> raw;
        raw.steps = options.steps;
        raw.heat_maps = options.heat_maps ? 1 : 0;
        raw.skip_self_test = options.self_test ? 0 : 1;
        raw.noise_floor_count = static_cast<std::uint32_t>(options.noise_floors.size());
        raw.noise_floors = options.noise_floors.data();
        detail::engine(raw, options);
        raw.calibration = options.calibration == nullptr ? nullptr : options.calibration->get();
        detector created;
        if (options.log) {
            created.log_ = std::make_shared<log_function>(options.log);
            raw.log = &detail::log;
            raw.log_user_data = created.log_.get();
            raw.log_level = static_cast<std::uint32_t>(options.log_level);
        }
        return detail::after(f2d2_detector_create(model.get(), &raw, created.handle_.place()),
                             [&] { return std::move(created); });
    }

    /// The same detector, judging by `calibration`, which is copied. Model and engine are shared.
    outcome<detector> calibrated(const calibration& calibration) const {
        detector created;
        created.log_ = log_;
        return detail::after(f2d2_detector_calibrated(handle_.get(), calibration.get(), created.handle_.place()),
                             [&] { return std::move(created); });
    }

    /// Makes a calibration from frames that are all normal; those that cannot be used are left out.
    outcome<calibration> calibrate(view<const frame> frames, const calibration_options& options = {},
                                   const cancel* cancel = nullptr) const {
        calibration made;
        const f2d2_frame* first = frames.empty() ? nullptr : frames[0].get();
        const f2d2_cancel* flag = cancel == nullptr ? nullptr : cancel->get();
        return detail::after(f2d2_detector_calibrate(handle_.get(), first, frames.size(), &options, flag,
                                                     made.handle_.place()),
                             [&] { return std::move(made); });
    }

    /// Which engine runs it, and why.
    outcome<f2d2_engine_report> engine() const {
        detail::sized<f2d2_engine_report> report;
        return detail::after(f2d2_detector_get_engine(handle_.get(), &report),
                             [&] { return f2d2_engine_report(report); });
    }

    /// Checks the engine against the golden vectors in the model file.
    outcome<void> self_test() const { return detail::after(f2d2_detector_self_test(handle_.get())); }
    /// Scores one grey frame and forgets it.
    outcome<void> warm_up() const { return detail::after(f2d2_detector_warm_up(handle_.get())); }

    /// As f2d2.h knows it.
    const f2d2_detector* get() const noexcept { return handle_.get(); }

  private:
    // Declared first, so that it goes last.
    std::shared_ptr<log_function> log_;
    detail::handle<f2d2_detector, f2d2_detector_destroy> handle_;
};

/// The answer for one frame. Numbers that there are none of are NaN.
class inspection {
  public:
    /// Normal, anomalous, invalid, or none without a calibration.
    f2d2::verdict verdict() const noexcept { return static_cast<f2d2::verdict>(raw_.verdict); }
    /// Conformal p-value, in (0, 1]: at most a share p of normal images are as strange, on average.
    double p_value() const noexcept { return raw_.p_value; }
    /// Strangeness of the score vector, nats; higher = stranger.
    double score() const noexcept { return raw_.score; }
    /// Scores above it are anomalous.
    double threshold() const noexcept { return raw_.threshold; }
    /// Negative log-likelihood at the first noise floor, nats.
    double nll() const noexcept { return raw_.nll_nats; }
    /// The same in bits per dimension.
    double bpd() const noexcept { return raw_.bpd; }
    /// Wall-clock time from the frames to the verdicts of the call.
    std::chrono::nanoseconds elapsed() const noexcept { return std::chrono::nanoseconds(raw_.elapsed_ns); }
    /// Network evaluations per noise floor.
    std::uint32_t steps() const noexcept { return raw_.steps; }
    /// Name of the engine that computed it.
    const char* engine() const noexcept { return raw_.engine; }

    /// As f2d2.h knows it.
    f2d2_inspection* get() noexcept { return &raw_; }

  private:
    detail::sized<f2d2_inspection> raw_;
};

/// Strangeness per pixel of the model's image size, nats, row by row; higher = stranger.
struct heat_map {
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::vector<float> values;
};

/// Counters and latencies of a session.
class stats : public detail::sized<f2d2_stats> {
  public:
    /// The latency that a share of all calls does not exceed, at most a quarter too long; 0.5 gives the median.
    outcome<std::chrono::nanoseconds> quantile(double share) const {
        std::uint64_t ns = 0;
        return detail::after(f2d2_stats_quantile(this, share, &ns), [&] { return std::chrono::nanoseconds(ns); });
    }
};

/// How a session is set up.
struct session_options {
    /// Frames that a batch may have; 0 is 256.
    std::uint32_t max_batch = 0;
    /// Receives messages about frames.
    log_function log;
    /// Least important level that it gets.
    level log_level = level::info;
};

/// One thread's use of a detector, with the results of the last call.
class session {
  public:
    /// A session. The detector may go afterwards.
    static outcome<session> create(const detector& detector, const session_options& options = {}) {
        detail::sized<f2d2_session_options> raw;
        raw.max_batch = options.max_batch;
        session created;
        if (options.log) {
            created.log_ = std::make_unique<log_function>(options.log);
            raw.log = &detail::log;
            raw.log_user_data = created.log_.get();
            raw.log_level = static_cast<std::uint32_t>(options.log_level);
        }
        return detail::after(f2d2_session_create(detector.get(), &raw, created.handle_.place()),
                             [&] { return std::move(created); });
    }

    /// Scores one frame, and judges it if the detector has a calibration. F2D2_INVALID_FRAME if its description cannot be
    /// true; if its pixels cannot be judged the verdict is `invalid`.
    outcome<inspection> score(const frame& frame) {
        inspection inspection;
        return detail::after(f2d2_session_score(handle_.get(), frame.get(), inspection.get()),
                             [&] { return inspection; });
    }

    /// Scores frames side by side, one inspection for each. A frame that fails fails alone: its verdict is `invalid`.
    outcome<void> score(view<const frame> frames, view<inspection> inspections, const cancel* cancel = nullptr) {
        if (frames.size() != inspections.size()) {
            return detail::fail<void>(error(F2D2_INVALID_VALUE, "there is room for " + std::to_string(inspections.size()) +
                                                                    " inspections, need " + std::to_string(frames.size())));
        }
        if (frames.empty()) return detail::after(F2D2_OK);
        const f2d2_cancel* flag = cancel == nullptr ? nullptr : cancel->get();
        return detail::after(f2d2_session_score_batch(handle_.get(), frames[0].get(), frames.size(),
                                                      inspections[0].get(), flag));
    }

    /// Why a frame of the last call is invalid; empty if it is not.
    outcome<std::string> reason(std::size_t index = 0) {
        return detail::text([&](char* buffer, std::size_t capacity, std::size_t* needed) {
            return f2d2_session_reason(handle_.get(), index, buffer, capacity, needed);
        });
    }

    /// The score vector of a frame of the last call.
    outcome<std::vector<double>> statistics(std::size_t index = 0) {
        return detail::all<std::vector<double>>([&](double* values, std::size_t capacity, std::size_t* needed) {
            return f2d2_session_statistics(handle_.get(), index, values, capacity, needed);
        });
    }

    /// The name of a number in the score vector of a frame of the last call, as in "nll@1".
    outcome<std::string> statistic_name(std::size_t position, std::size_t index = 0) {
        return detail::text([&](char* buffer, std::size_t capacity, std::size_t* needed) {
            return f2d2_session_statistic_name(handle_.get(), index, position, buffer, capacity, needed);
        });
    }

    /// One number of the score vector of a frame of the last call by its name.
    outcome<double> statistic(const std::string& name, std::size_t index = 0) {
        double value = 0;
        return detail::after(f2d2_session_statistic(handle_.get(), index, name.c_str(), &value), [&] { return value; });
    }

    /// The heat map of a frame of the last call, of a detector with heat maps.
    outcome<f2d2::heat_map> heat_map(std::size_t index = 0) {
        f2d2::heat_map map;
        const f2d2_status status = read_heat_map(map, index);
        return detail::after(status, [&] { return std::move(map); });
    }

    /// The same into a map that is used again and again: it allocates only until it is large enough.
    outcome<void> heat_map_into(f2d2::heat_map& map, std::size_t index = 0) {
        return detail::after(read_heat_map(map, index));
    }

    /// Measures a normal frame for `calibrate`. The frame itself is not kept.
    outcome<void> collect(const frame& frame) {
        return detail::after(f2d2_session_collect(handle_.get(), frame.get()));
    }

    /// Makes a calibration from the frames that were collected, which are forgotten then.
    outcome<calibration> calibrate(const calibration_options& options = {}) {
        calibration made;
        return detail::after(f2d2_session_calibrate(handle_.get(), &options, made.handle_.place()),
                             [&] { return std::move(made); });
    }

    /// What the session did since it was created.
    outcome<f2d2::stats> stats() {
        f2d2::stats stats;
        return detail::after(f2d2_session_get_stats(handle_.get(), &stats), [&] { return stats; });
    }

    /// As f2d2.h knows it.
    f2d2_session* get() const noexcept { return handle_.get(); }

  private:
    f2d2_status read_heat_map(f2d2::heat_map& map, std::size_t index) {
        std::size_t needed = 0;
        const f2d2_status asked =
            f2d2_session_heat_map(handle_.get(), index, nullptr, 0, &needed, &map.width, &map.height);
        if (asked != F2D2_OK) return asked;
        map.values.resize(needed);
        return f2d2_session_heat_map(handle_.get(), index, map.values.data(), needed, &needed, nullptr, nullptr);
    }

    // Declared first, so that it goes last.
    std::unique_ptr<log_function> log_;
    detail::handle<f2d2_session, f2d2_session_destroy> handle_;
};

/// How a sampler is set up.
struct sampler_options {
    /// Images evaluated side by side; 0 is one per core.
    std::uint32_t threads = 0;
    /// As for a detector.
    std::string engine = "auto";
    /// As for a detector.
    std::string adapter;
    /// As for a detector.
    std::string precision = "f32";
    /// As for a detector.
    bool background = false;
    /// As for a detector.
    bool cpu_on_loss = false;
    /// As for a detector.
    const f2d2::threads* pool = nullptr;
};

/// Draws images from a model that was trained to sample.
class sampler {
  public:
    /// Puts a model on an engine. The model may go afterwards.
    static outcome<sampler> create(const model& model, const sampler_options& options = {}) {
        detail::sized<f2d2_sampler_options> raw;
        detail::engine(raw, options);
        sampler created;
        return detail::after(f2d2_sampler_create(model.get(), &raw, created.handle_.place()),
                             [&] { return std::move(created); });
    }

    /// `count` images in `steps` evaluations each (0: the model's recommendation), one after the other, rows of packed
    /// bytes. Image i depends on `seed` and i only.
    outcome<std::vector<std::uint8_t>> draw(std::size_t count, std::uint32_t steps, std::uint64_t seed) const {
        return detail::all<std::vector<std::uint8_t>>(
            [&](std::uint8_t* pixels, std::size_t capacity, std::size_t* needed) {
                return f2d2_sampler_draw(handle_.get(), count, steps, seed, pixels, capacity, needed);
            });
    }

    /// As `draw`, each after one step of size `learning_rate` on its noise, towards a likelier image. The model needs the
    /// output grad_d, which is loaded at the first call.
    outcome<std::vector<std::uint8_t>> draw_guided(std::size_t count, std::uint32_t steps, std::uint64_t seed,
                                                   double learning_rate) const {
        return detail::all<std::vector<std::uint8_t>>(
            [&](std::uint8_t* pixels, std::size_t capacity, std::size_t* needed) {
                return f2d2_sampler_draw_guided(handle_.get(), count, steps, seed, learning_rate, pixels, capacity,
                                                needed);
            });
    }

    /// As f2d2.h knows it.
    const f2d2_sampler* get() const noexcept { return handle_.get(); }

  private:
    detail::handle<f2d2_sampler, f2d2_sampler_destroy> handle_;
};

// Arrays of these are passed as arrays of the structs that they are.
static_assert(sizeof(frame) == sizeof(f2d2_frame) && std::is_standard_layout_v<frame>);
static_assert(sizeof(inspection) == sizeof(f2d2_inspection) && std::is_standard_layout_v<inspection>);

}  // inline namespace
}  // namespace f2d2

#endif

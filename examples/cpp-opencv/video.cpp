// Calibrates on the first half of a video and judges the second: video MODEL INPUT OUTPUT.avi OUTPUT.csv [FRAMES]
#include <f2d2_opencv.hpp>

#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace {

// The hottest regions in colour over the frame, and a border that says what was decided.
void draw(cv::Mat& image, f2d2::heat_map& map, const f2d2::inspection& result) {
    cv::Mat heat;
    cv::normalize(f2d2::to_mat(map), heat, 0, 255, cv::NORM_MINMAX, CV_8U);
    cv::resize(heat, heat, image.size(), 0, 0, cv::INTER_CUBIC);
    cv::applyColorMap(heat, heat, cv::COLORMAP_INFERNO);
    cv::addWeighted(image, 0.7, heat, 0.3, 0, image);
    const bool good = result.verdict() == f2d2::verdict::normal;
    const cv::Scalar colour = good ? cv::Scalar(0, 160, 0) : cv::Scalar(0, 0, 255);
    cv::rectangle(image, {0, 0}, {image.cols - 1, image.rows - 1}, colour, 6);
    cv::putText(image, to_string(result.verdict()), {16, 36}, cv::FONT_HERSHEY_SIMPLEX, 1, colour, 2);
}

double milliseconds(std::chrono::nanoseconds time) { return std::chrono::duration<double, std::milli>(time).count(); }

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5 && argc != 6) {
        std::fprintf(stderr, "usage: video MODEL INPUT OUTPUT.avi OUTPUT.csv [FRAMES]\n");
        return 2;
    }
    cv::VideoCapture video(argv[2]);
    int frames = static_cast<int>(video.get(cv::CAP_PROP_FRAME_COUNT));
    if (argc == 6) frames = std::min(frames, std::atoi(argv[5]));
    if (!video.isOpened() || frames < 2) {
        std::fprintf(stderr, "cannot read %s\n", argv[2]);
        return 1;
    }
    f2d2::detector_options options;
    options.heat_maps = true;
    const auto detector = f2d2::detector::create(f2d2::model::open(argv[1]), options);

    cv::Mat image;
    auto learning = f2d2::session::create(detector);
    int number = 0;
    for (; number < frames / 2 && video.read(image); ++number) learning.collect(f2d2::from_mat(image));
    f2d2::calibration_options rates;
    rates.alpha = 0.05;  // The default of 1 % takes 598 images.
    const auto calibration = learning.calibrate(rates);
    std::printf("calibrated on %d frames, at most %g %% false alarms\n", number, 100 * rates.alpha);

    auto session = f2d2::session::create(detector.calibrated(calibration));
    cv::VideoWriter annotated(argv[3], cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), video.get(cv::CAP_PROP_FPS),
                              cv::Size(image.cols, image.rows));
    std::ofstream table(argv[4]);
    if (!annotated.isOpened() || !table) {
        std::fprintf(stderr, "cannot write %s and %s\n", argv[3], argv[4]);
        return 1;
    }
    table << "frame,verdict,score,p_value,latency_ms\n";
    f2d2::heat_map map;
    const auto start = std::chrono::steady_clock::now();
    for (; number < frames && video.read(image); ++number) {
        const f2d2::inspection result = session.score(f2d2::from_mat(image));
        table << number << ',' << to_string(result.verdict()) << ',' << result.score() << ',' << result.p_value() << ','
              << milliseconds(result.elapsed()) << '\n';
        if (result.verdict() != f2d2::verdict::invalid) {
            session.heat_map_into(map);
            draw(image, map, result);
        }
        annotated.write(image);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

    const f2d2::stats stats = session.stats();
    std::printf("%llu frames: %llu normal, %llu anomalous, %llu invalid\n",
                static_cast<unsigned long long>(stats.frames), static_cast<unsigned long long>(stats.normal),
                static_cast<unsigned long long>(stats.anomalous), static_cast<unsigned long long>(stats.invalid));
    std::printf("%.1f frames/s with reading, drawing and writing; scoring p50 %.2f ms, p99 %.2f ms\n",
                static_cast<double>(stats.frames) / seconds.count(), milliseconds(stats.quantile(0.5)),
                milliseconds(stats.quantile(0.99)));
    return 0;
} catch (const f2d2::error& error) {
    std::fprintf(stderr, "%s (%s)\n", error.what(), error.hint().c_str());
    return 1;
} catch (const cv::Exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}

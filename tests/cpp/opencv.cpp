// Matrices of every type that cameras and files give, whole and in part, against the same pixels described by hand.
#include <f2d2_opencv.hpp>

#include <cstdio>

namespace {

int wrong = 0;

void check(bool good, const char* what) {
    if (!good) {
        ++wrong;
        std::printf("wrong: %s\n", what);
    }
}

template <class... Arguments>
bool refused(const Arguments&... arguments) {
    try {
        f2d2::from_mat(arguments...);
        return false;
    } catch (const f2d2::error& error) {
        return error.status() == F2D2_INVALID_FRAME && !error.message().empty();
    }
}

}  // namespace

int main(int, char** argv) {
    f2d2::detector_options options;
    options.heat_maps = true;
    auto session = f2d2::session::create(f2d2::detector::create(f2d2::model::open(argv[1]), options));
    const auto nll = [&](const f2d2::frame& frame) { return session.score(frame).nll(); };

    cv::Mat grey(40, 50, CV_8UC1);
    cv::randu(grey, 0, 256);
    const double need = nll(f2d2::frame(grey.data, 2000, f2d2::format::gray8, 50, 40));
    check(nll(f2d2::from_mat(grey)) == need, "CV_8UC1");
    cv::Mat words, floats;
    grey.convertTo(words, CV_16UC1, 257);
    grey.convertTo(floats, CV_32FC1, 1.0 / 255);
    check(nll(f2d2::from_mat(words)) == need, "CV_16UC1");
    check(nll(f2d2::from_mat(floats)) == need, "CV_32FC1");

    cv::Mat bgr(40, 50, CV_8UC3), bgra(40, 50, CV_8UC4);
    cv::randu(bgr, 0, 256);
    cv::Mat channels[3];
    cv::split(bgr, channels);
    const cv::Mat alpha(40, 50, CV_8UC1, cv::Scalar(7));
    cv::merge(std::vector<cv::Mat>{channels[0], channels[1], channels[2], alpha}, bgra);
    cv::Mat rgb;
    cv::merge(std::vector<cv::Mat>{channels[2], channels[1], channels[0]}, rgb);
    const double colour = nll(f2d2::frame(rgb.data, 6000, f2d2::format::rgb8, 50, 40));
    check(nll(f2d2::from_mat(bgr)) == colour && colour != need, "CV_8UC3 is BGR");
    check(nll(f2d2::from_mat(bgra)) == colour, "CV_8UC4 is BGRA");
    check(nll(f2d2::from_mat(rgb, f2d2::format::rgb8)) == colour, "RGB by its name");
    check(nll(f2d2::from_mat(bgr, f2d2::format::rgb8)) != colour, "the order of the channels matters");
    cv::Mat rgb_floats;
    rgb.convertTo(rgb_floats, CV_32FC3, 1.0 / 255);
    check(nll(f2d2::from_mat(rgb_floats, f2d2::format::rgb_f32)) == colour, "CV_32FC3 by its name");

    // Parts of a matrix share its rows; the last part ends where the memory does.
    for (const cv::Rect& part : {cv::Rect(3, 5, 20, 30), cv::Rect(30, 10, 20, 30), cv::Rect(49, 39, 1, 1)}) {
        check(nll(f2d2::from_mat(bgr(part))) == nll(f2d2::from_mat(bgr(part).clone())), "a part of a matrix");
        check(f2d2::from_mat(bgr(part)).get()->data == bgr.ptr(part.y, part.x), "without a copy");
    }
    check(nll(f2d2::from_mat(grey.col(3))) == nll(f2d2::from_mat(grey.col(3).clone())), "a column");

    check(refused(cv::Mat()), "an empty matrix");
    check(refused(rgb_floats), "colour as float without its format");
    check(refused(cv::Mat(4, 4, CV_64FC1, cv::Scalar(0))), "doubles");
    check(refused(cv::Mat(4, 4, CV_8UC2, cv::Scalar(0))), "two channels");
    check(refused(cv::Mat({4, 4, 4}, CV_8UC1)), "three dimensions");
    check(refused(grey, f2d2::format::bgr8), "a matrix of another format");

    session.score(f2d2::from_mat(grey));
    f2d2::heat_map map = session.heat_map();
    const cv::Mat heat = f2d2::to_mat(map);
    check(heat.rows == 28 && heat.cols == 28 && heat.type() == CV_32FC1, "size of the heat map");
    check(heat.at<float>(27, 3) == map.values[27 * 28 + 3] && heat.ptr<float>() == map.values.data(), "its values");
    std::puts(wrong == 0 ? "ok" : "wrong");
    return wrong == 0 ? 0 : 1;
}

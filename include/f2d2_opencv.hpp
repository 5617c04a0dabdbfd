// Frames of cv::Mat, and cv::Mat of heat maps. Nothing is copied: a frame is valid as long as the pixels of the matrix.
#ifndef F2D2_OPENCV_HPP
#define F2D2_OPENCV_HPP

#include "f2d2.hpp"

#include <opencv2/core.hpp>

namespace f2d2 {
#ifdef F2D2_NO_EXCEPTIONS
inline namespace without_exceptions {
#else
inline namespace with_exceptions {
#endif

/// A matrix whose channels are in the order of `format`; a part of a larger matrix, too.
///
/// F2D2_INVALID_FRAME if the matrix has not two dimensions, or its elements are not pixels of that format.
inline outcome<frame> from_mat(const cv::Mat& mat, format format) {
    int type = -1;
    switch (format) {
    case format::gray8: type = CV_8UC1; break;
    case format::gray16: type = CV_16UC1; break;
    case format::gray_f32: type = CV_32FC1; break;
    case format::rgb8:
    case format::bgr8: type = CV_8UC3; break;
    case format::rgba8:
    case format::bgra8: type = CV_8UC4; break;
    case format::rgb_f32: type = CV_32FC3; break;
    }
    if (mat.dims != 2 || mat.empty() || mat.type() != type) {
        const std::string got = mat.empty() ? "empty" : cv::typeToString(mat.type());
        const std::string need = type < 0 ? "a known pixel format" : cv::typeToString(type) + " in two dimensions";
        return detail::fail<frame>(error(F2D2_INVALID_FRAME, "matrix is " + got + ", need " + need));
    }
    const std::size_t row = static_cast<std::size_t>(mat.cols) * mat.elemSize();
    const std::size_t size = mat.step[0] * static_cast<std::size_t>(mat.rows - 1) + row;
    return frame(mat.data, size, format, static_cast<std::uint32_t>(mat.cols), static_cast<std::uint32_t>(mat.rows),
                 mat.step[0]);
}

/// A matrix as OpenCV reads and captures them: grey as 8 or 16 bits or float, BGR or BGRA as 8 bits.
///
/// Colour as float has to name its format, as OpenCV's order of the channels is not the library's.
inline outcome<frame> from_mat(const cv::Mat& mat) {
    switch (mat.type()) {
    case CV_16UC1: return from_mat(mat, format::gray16);
    case CV_32FC1: return from_mat(mat, format::gray_f32);
    case CV_8UC3: return from_mat(mat, format::bgr8);
    case CV_8UC4: return from_mat(mat, format::bgra8);
    case CV_32FC3:
        return detail::fail<frame>(error(F2D2_INVALID_FRAME, "matrix is CV_32FC3 without a format, need RGB and its name"));
    default: return from_mat(mat, format::gray8);
    }
}

/// The values of a heat map as a matrix of CV_32FC1 over the same memory.
inline cv::Mat to_mat(heat_map& map) {
    return cv::Mat(static_cast<int>(map.height), static_cast<int>(map.width), CV_32FC1, map.values.data());
}

}  // inline namespace
}  // namespace f2d2

#endif

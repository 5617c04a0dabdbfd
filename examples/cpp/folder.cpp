// Judges every image of a folder: folder MODEL CALIBRATION FOLDER
#include <f2d2.hpp>

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <vector>

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::fprintf(stderr, "usage: folder MODEL CALIBRATION FOLDER\n");
        return 2;
    }
    const auto model = f2d2::model::open(argv[1]);
    const auto calibration = f2d2::calibration::load(argv[2]);
    f2d2::detector_options options;
    options.calibration = &calibration;
    const auto detector = f2d2::detector::create(model, options);
    auto session = f2d2::session::create(detector);

    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(argv[3])) files.push_back(entry.path());
    std::sort(files.begin(), files.end());

    std::map<f2d2::verdict, int> counts;
    for (const auto& file : files) {
        int width = 0, height = 0;
        const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
            stbi_load(file.string().c_str(), &width, &height, nullptr, 3), stbi_image_free);
        if (!pixels) {
            std::printf("%s: %s\n", file.filename().string().c_str(), stbi_failure_reason());
            ++counts[f2d2::verdict::invalid];
            continue;
        }
        const std::size_t size = std::size_t{3} * static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
        const f2d2::frame frame(pixels.get(), size, f2d2::format::rgb8, static_cast<std::uint32_t>(width),
                                static_cast<std::uint32_t>(height));
        const f2d2::inspection result = session.score(frame);
        std::printf("%s: %s, p = %.4f\n", file.filename().string().c_str(), to_string(result.verdict()),
                    result.p_value());
        ++counts[result.verdict()];
    }
    std::printf("%d normal, %d anomalous, %d invalid\n", counts[f2d2::verdict::normal],
                counts[f2d2::verdict::anomalous], counts[f2d2::verdict::invalid]);
    return 0;
} catch (const f2d2::error& error) {
    std::fprintf(stderr, "%s (%s)\n", error.what(), error.hint().c_str());
    return 1;
} catch (const std::filesystem::filesystem_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}

// The library that was linked says which one it is, and that a model that is not there cannot be opened.
#include <f2d2.hpp>

#include <cstdio>

int main() {
    try {
        f2d2::model::open("no such file");
    } catch (const f2d2::error& error) {
        std::printf("f2d2 %s\n", f2d2_version_string());
        return error.status() == F2D2_IO ? 0 : 1;
    }
    return 1;
}

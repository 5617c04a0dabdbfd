// The C ABI and the bridge, each from its own static library with its own copy of the Rust standard library.
#include <f2d2.hpp>

#include "rust/cxx.h"

#include "f2d2-cxx/src/lib.rs.h"

#include <cstdio>

int main(int, char** argv) {
    int failures = 0;
    try {
        f2d2::model::open(argv[1]);
    } catch (const f2d2::error& error) {
        failures += error.status() == F2D2_IO;
    }
    try {
        f2d2::bridge::model_open(argv[1], f2d2::bridge::limits());
    } catch (const rust::Error& error) {
        failures += f2d2::bridge::error_code(error.what()) == F2D2_IO;
    }
    std::puts(failures == 2 ? "ok" : "wrong");
}

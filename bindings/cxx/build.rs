//! Generates and compiles the C++ half of the bridge; its headers end up in `target/cxxbridge`.

fn main() {
    cxx_build::bridge("src/lib.rs").std("c++17").compile("f2d2-cxx-bridge");
    println!("cargo:rerun-if-changed=src/lib.rs");
}

"""Conan 2 recipe: builds f2d2 from the source tree that it lies in; needs Rust and binutils."""

import os

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.files import copy

ROOT = os.path.join("..", "..", "..")


class F2d2(ConanFile):
    name = "f2d2"
    version = "0.1.0"
    license = "MIT OR Apache-2.0"
    description = "Real-time, calibrated image anomaly detection with few-step flow maps"
    topics = ("anomaly-detection", "vision", "flow-matching")
    package_type = "library"
    # The ABI is that of C: no compiler setting changes the binary.
    settings = "os", "arch"
    options = {"shared": [True, False]}
    default_options = {"shared": True}

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("f2d2 is packed for Linux")

    def export_sources(self):
        source = os.path.join(self.recipe_folder, ROOT)
        # What cargo reads of the workspace, and what is packed.
        for pattern in (
            ".cargo/*",
            "Cargo.*",
            "*.md",
            "LICENSE-*",
            "bindings/*",
            "examples/*",
            "include/*",
            "models/fashion-mnist/*",
            "sdk/*",
            "tests/*",
        ):
            copy(self, pattern, source, self.export_sources_folder, excludes="*/__pycache__/*")

    def build(self):
        self.run("cargo xtask dist --out dist", cwd=self.source_folder)

    def package(self):
        # F2D2_DIST: a folder that `cargo xtask dist` has written, for `conan export-pkg`.
        dist = os.environ.get("F2D2_DIST", os.path.join(self.source_folder, "dist"))
        tree = next(entry.path for entry in os.scandir(dist) if entry.is_dir())
        copy(self, "*", os.path.join(tree, "include"), os.path.join(self.package_folder, "include"))
        library = "libf2d2.so*" if self.options.shared else "libf2d2.a"
        copy(self, library, os.path.join(tree, "lib"), os.path.join(self.package_folder, "lib"))
        documents = os.path.join(tree, "share", "doc", "f2d2")
        copy(self, "*", documents, os.path.join(self.package_folder, "licenses"))

    def package_info(self):
        self.cpp_info.libs = ["f2d2"]
        name = "f2d2::f2d2" if self.options.shared else "f2d2::static"
        self.cpp_info.set_property("cmake_target_name", name)
        self.cpp_info.set_property("pkg_config_name", "f2d2")
        if not self.options.shared:
            # As `rustc --print native-static-libs` says; compared with it by the tests.
            self.cpp_info.system_libs = ["gcc_s", "util", "rt", "pthread", "m", "dl", "c"]

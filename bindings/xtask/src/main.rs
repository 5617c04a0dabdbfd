//! Build tasks: `cargo xtask TASK`.

mod dist;
mod elf;
mod header;
mod licences;
mod linked;
mod sbom;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Build tasks of f2d2")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write include/f2d2.h from bindings/c.
    Header(header::Header),
    /// Pack libraries, headers, package files, examples and a model for C and C++ programmers.
    Dist(dist::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Header(header) => header.run(),
        Task::Dist(options) => dist::run(&options),
    }
}

/// Root of the repository.
fn root() -> &'static std::path::Path {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

//! Build tasks: `cargo xtask TASK`.

mod dist;
mod elf;
mod licences;
mod linked;
mod sbom;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Build tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Pack libraries, headers, package files, examples and a model for C and C++ programmers
    Dist(dist::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Dist(options) => dist::run(&options),
    }
}

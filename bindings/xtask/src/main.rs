//! Build tasks: `cargo run --release --bin xtask -- TASK`.

mod header;

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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Header(header) => header.run(),
    }
}

/// Root of the repository.
fn root() -> &'static std::path::Path {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

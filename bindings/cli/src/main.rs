//! The `f2d2` command: parses the command line, runs one sub-command, turns its outcome into an exit code.
//!
//! Exit codes: 0 all fine, 1 usage or model error, 2 some inputs were invalid (the others were dealt with).

mod bench;
mod calibrate;
mod chart;
mod evaluate;
mod failure;
mod figures;
mod heatmaps;
mod info;
mod inputs;
mod options;
mod output;
mod overlay;
mod picture;
mod report;
mod resplit;
mod roc;
mod sample;
mod scan;
mod score;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::Terminal;

/// Calibrated image anomaly detection with few-step flow maps.
#[derive(Parser)]
#[command(name = "f2d2", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    /// Show no progress bar and no warnings
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
INPUTS are image files, folders (searched recursively, in name order) and uint8 arrays [N,H,W] or [N,H,W,C] \
in .npy or .npz files; file.npz:key names one array of several.

Exit codes: 0 all fine, 1 usage or model error, 2 some inputs were invalid.";

#[derive(Subcommand)]
enum Command {
    /// Describe a model and test it on each engine
    Info(info::Info),
    /// Fit a decision threshold to normal images
    Calibrate(calibrate::Calibrate),
    /// Score images: how unlike the normal ones each is
    Score(score::Score),
    /// Draw images from a model
    Sample(sample::Sample),
    /// Measure how well normal and anomalous images are told apart
    Evaluate(evaluate::Evaluate),
    /// Measure throughput and latency on this machine
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell if the terminal itself is gone.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let mut terminal = Terminal::new(cli.quiet);
    let outcome = match cli.command {
        Command::Info(command) => command.run(&mut terminal),
        Command::Calibrate(command) => command.run(&mut terminal),
        Command::Score(command) => command.run(&mut terminal),
        Command::Sample(command) => command.run(&mut terminal),
        Command::Evaluate(command) => command.run(&mut terminal),
        Command::Bench(command) => command.run(&mut terminal),
    };
    match outcome.and_then(|outcome| terminal.flush().map(|()| outcome)) {
        Ok(Outcome { invalid: 0 }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            output::complain(&failure::describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// What a sub-command that ran to its end has to say about its inputs.
#[derive(Default)]
struct Outcome {
    /// Inputs that could not be used.
    invalid: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

//! Entry point: parses the command line and runs the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    leadwire::cli::main()
}

//! The `sealift` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealift::cli::run()
}

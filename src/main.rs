use std::process::ExitCode;

fn main() -> ExitCode {
    haze::cli::main()
}

//! OCI hook.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

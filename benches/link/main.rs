//! Measures whole commands over a slow, lossy link that it makes itself: three network namespaces, a line between two of them, an
//! origin and an S3 server at the ends. It needs root and Linux. `benches/README.md` has the newest table.
//!
//! `cargo bench --bench link -- --rows origin-1-64 --peers none`; `--help` tells the rest. Under `cargo test` it carries a few
//! small files, to show that it still works.

#[cfg(target_os = "linux")]
mod bench;

#[cfg(target_os = "linux")]
use bench::main as measure;

#[cfg(not(target_os = "linux"))]
fn measure() -> std::process::ExitCode {
    println!("link: skipped: network namespaces are Linux's");
    let is_required = std::env::args().any(|argument| argument == "--require");
    std::process::ExitCode::from(u8::from(is_required))
}

fn main() -> std::process::ExitCode {
    measure()
}

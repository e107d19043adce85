//! Turns Ctrl-C into an error, so that everything that was made is taken down on the way out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Listens from now on.
pub(crate) fn listen() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                heard = tokio::signal::ctrl_c() => heard?,
                _ = terminated.recv() => {}
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
            io::Result::Ok(())
        })
    });
    Ok(())
}

/// Fails once it was heard.
pub(crate) fn check() -> io::Result<()> {
    match INTERRUPTED.load(Ordering::Relaxed) {
        false => Ok(()),
        true => Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
    }
}

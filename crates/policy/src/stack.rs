//! Threads with large stacks: the interpreter recurses, and 2 MiB end the process at 600 rules in a row.

use std::io;
use std::thread;

/// Bytes. Only what is used of them takes memory.
pub const SIZE: usize = 64 << 20;

/// Runs `work` on a thread with a large stack, and waits for it.
///
/// A panic goes on here.
pub fn large<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("policy".to_owned())
            .stack_size(SIZE)
            .spawn_scoped(scope, work)?;
        Ok(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

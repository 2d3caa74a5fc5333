//! Memory for intermediate results.

use std::cell::Cell;

thread_local! {
    /// Kept from task to task, since clearing fresh memory costs as much as a small product.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with `len` numbers of arbitrary content.
pub fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken out while in use: if `work` waits for other tasks, one of them may run on this thread.
    let mut memory = SCRATCH.take();
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    let result = work(&mut memory[..len]);
    SCRATCH.set(memory);
    result
}

#[cfg(test)]
mod tests {
    use super::with_scratch;

    #[test]
    fn nested_uses_do_not_share_memory() {
        with_scratch(4, |outer| {
            outer.fill(1.0);
            with_scratch(8, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 4]);
        });
    }
}

//! What is much for a moment, for a daemon that lives on: the kernel's types and the programs
//! when it loads, and what a runtime tells of all that runs.

/// Gives what was freed back to the system. The GNU allocator keeps it else; others do this by
/// themselves.
#[cfg(target_env = "gnu")]
pub(crate) fn give_back() {
    // SAFETY: only looks at free memory, under the allocator's own locks.
    let given = unsafe { libc::malloc_trim(0) };
    log::debug!("memory {}given back", if given == 0 { "not " } else { "" });
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}

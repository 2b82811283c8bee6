//! Cost of plugins alone: a call of each hook in each language, and a swap.

mod calls;
mod measure;
mod native;
mod swaps;
mod tables;

use std::path::Path;

use anyhow::Result;

/// Runs the benchmarks of hooks; returns true if the gates hold. `folder` holds the built plugins of `guests/`.
pub fn run(folder: &Path) -> Result<bool> {
    tables::machine();
    let gate = calls::run(folder)?;
    swaps::run(folder)?;
    println!();
    gate.lines().iter().for_each(|line| println!("{line}"));
    Ok(gate.holds())
}

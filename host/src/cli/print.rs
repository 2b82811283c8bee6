//! Output of results to stdout.

use std::io::Write;

use anyhow::{Context, Result};

use crate::domain::text::one_line;

/// Writes a result to stdout.
pub(crate) fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // The text may come from others: it must not control the terminal.
    let text = text.to_string();
    let lines: Vec<_> = text.split('\n').map(one_line).collect();
    writeln!(stdout, "{}", lines.join("\n")).and_then(|()| stdout.flush()).context("cannot write to stdout")
}

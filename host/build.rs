//! Embeds migrations, and the files for front ends that `npm run assets` has made.

use std::{env, error::Error, fmt::Write, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo must look at them again when they change.
    println!("cargo:rerun-if-changed=../migrations");
    println!("cargo:rerun-if-changed=../clients/js/assets");

    let assets = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../clients/js/assets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&assets).into_iter().flatten() {
        let name = entry?.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
        names.extend((!name.starts_with('.')).then_some(name));
    }
    names.sort();
    let mut table = String::from("&[\n");
    for name in names {
        let path = assets.join(&name);
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", path.display().to_string())?;
    }
    table.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("client_files.rs"), table)?;
    Ok(())
}

//! The public interface is the one that `public-api.txt` lists, so that a change of it shows in review:
//! an entry that changes or goes away asks for a new minor version while the version is 0.x.
//!
//! `make public-api` writes the list anew. It is made by `public-api` (the library of
//! cargo-public-api) from rustdoc's JSON, whose format changes with the compiler.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The format of rustdoc's JSON that the `public-api` in Cargo.toml reads: that of Rust 1.93 to 1.95.
const FORMAT: &str = "\"format_version\":57";

#[test]
fn the_public_interface_is_the_listed_one() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("public-api");
    let output = Command::new(env!("CARGO"))
        .args(["rustdoc", "--quiet", "--offline", "--lib", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "-Zunstable-options", "--output-format=json", "--cap-lints=allow"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = target.join("doc/flannel_packet.json");
    if !fs::read_to_string(&json).unwrap().contains(FORMAT) {
        eprintln!("SKIPPED: rustdoc of this compiler writes another JSON than {FORMAT}");
        return;
    }
    let interface = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap()
        .to_string();
    let list = package.join("public-api.txt");
    if env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(list, interface).unwrap();
        return;
    }
    let listed = fs::read_to_string(list).unwrap();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (lines(&interface), lines(&listed));
    let added: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    let removed: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    assert!(
        added.is_empty() && removed.is_empty(),
        "the public interface changed (make public-api records it)\nadded: {added:#?}\nremoved: {removed:#?}"
    );
}

//! Makes sure that the linked llama.cpp carries our patches and kernels, and writes the bindings of their
//! C interfaces.
//!
//! `.cargo/config.toml` lets `ggml-patches/inject.cmake` take part in llama-cpp-sys-2's build, which
//! leaves a stamp of everything it used. Cargo does not know that our patches are inputs of that crate,
//! so the stamp is compared here with what the repository holds now.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() {
    let repository = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    for folder in ["ggml-patches", "kernels"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_METAL").is_some()
        && std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor != "apple")
    {
        eprintln!("\nerror: the feature `metal` needs a machine of Apple's: build without it\n");
        std::process::exit(1);
    }
    // The output folder of llama-cpp-sys-2.
    let llama = PathBuf::from(std::env::var("DEP_LLAMA_ROOT").expect("llama-cpp-sys-2 sets it"));

    if let Err(problem) = check_patches(&repository, &llama) {
        eprintln!("\nerror: {problem}\n");
        std::process::exit(1);
    }
    // The patched copy, which the tests of GPU kernels read.
    println!("cargo:rustc-env=LLAMA_SVF_LLAMA={}", llama.display());
    write_bindings(&llama);
}

fn check_patches(repository: &Path, llama: &Path) -> Result<(), String> {
    let stamp = llama.join("build/svf/stamp");
    println!("cargo:rerun-if-changed={}", stamp.display());
    let Ok(built) = fs::read_to_string(&stamp) else {
        return Err(format!(
            "llama.cpp was built without llama-svf's patches.\n\
             They take effect through {config}, which cargo reads only when it is started inside the \
             repository:\n    cd {repository} && cargo build --release\n\
             To use the crate as a dependency, copy the [env] section of that file into your own \
             .cargo/config.toml, with the full path of ggml-patches/inject.cmake, and run `cargo clean -p \
             llama-cpp-sys-2` once.",
            config = repository.join(".cargo/config.toml").display(),
            repository = repository.display(),
        ));
    };
    let now = stamp_of(repository).map_err(|error| format!("cannot read the patches: {error}"))?;
    // For scripts, which then run the same command once more.
    let changed = stamp.with_file_name("changed");
    if built == now {
        if changed.exists() {
            fs::remove_file(&changed)
                .map_err(|error| format!("cannot remove {}: {error}", changed.display()))?;
        }
        return Ok(());
    }
    fs::write(&changed, "").map_err(|error| format!("cannot write {}: {error}", changed.display()))?;
    // Without its recorded output, cargo runs the build script of llama-cpp-sys-2 again.
    let output = llama.with_file_name("output");
    fs::remove_file(&output).map_err(|error| format!("cannot remove {}: {error}", output.display()))?;
    Err("the patches or kernels changed since llama.cpp was built. Run the same command once more: it \
         rebuilds what changed."
        .into())
}

/// The same lines inject.cmake writes: hash and path of every patch and kernel, in its order.
fn stamp_of(repository: &Path) -> std::io::Result<String> {
    let mut patches = Vec::new();
    let mut kernels = Vec::new();
    list_files(&repository.join("ggml-patches"), &mut patches)?;
    list_files(&repository.join("kernels"), &mut kernels)?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    // Editing the manual there rebuilds nothing.
    kernels.retain(|path| path.extension().is_none_or(|extension| extension != "md"));
    kernels.sort();
    let mut stamp = String::new();
    for path in [repository.join("ggml-patches/inject.cmake")].iter().chain(&patches).chain(&kernels) {
        let hash: String = Sha256::digest(fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect();
        let name =
            path.strip_prefix(repository).expect("listed below it").to_string_lossy().replace('\\', "/");
        stamp += &format!("{hash} {name}\n");
    }
    Ok(stamp)
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn write_bindings(llama: &Path) {
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join("svf.rs");
    bindgen::Builder::default()
        .header("kernels/svf_mul_mat.h")
        .header("kernels/llama/svf_hook.h")
        .header("kernels/llama/svf_chat.h")
        .header("kernels/llama/svf_guard.h")
        .header("kernels/rpc/svf_rpc.h")
        .header(llama.join("include/ggml-rpc.h").display().to_string())
        .clang_arg(format!("-I{}", llama.join("include").display()))
        .allowlist_item("svf_.*|SVF_.*|RPC_PROTO_.*|ggml_backend_rpc_(add|start)_server")
        // ggml's and llama.cpp's own types come from llama-cpp-sys-2.
        .blocklist_type("ggml_.*|llama_.*")
        .raw_line("use llama_cpp_sys_2::*;")
        .prepend_enum_name(false)
        .layout_tests(false)
        .generate()
        .expect("bindgen reads our headers")
        .write_to_file(&out)
        .expect("OUT_DIR is writable");
}

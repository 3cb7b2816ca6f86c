#!/usr/bin/env bash
# Installs what building llama-svf needs and this machine lacks: git, a C and C++ compiler, cmake,
# libclang and cargo. Says what it does; does nothing where all is there.
#
#   scripts/setup.sh            run it
#   . scripts/setup.sh          or source it, so that a cargo installed just now is found, and svf_cargo is there
#
# With svf_for_tests=1 it also installs the python3 that tests let a model's programs run with, and the clang that the
# tests of GPU kernels use, where that is possible.

# Cargo.toml's rust-version.
svf_rust_minor=89

svf_has() { command -v "$1" >/dev/null 2>&1; }
svf_say() { printf '%s\n' "setup: $*" >&2; }

svf_has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    # libclang-cpp, which other packages bring along, is another library.
    if svf_has ldconfig && ldconfig -p 2>/dev/null | grep -Eq 'libclang(-[0-9.]+)?\.so'; then
        return 0
    fi
    # Where Debian's llvm packages, Apple's tools and Homebrew put it.
    local file
    for file in /usr/lib/llvm-*/lib/libclang{,-[0-9]*}.so* /usr/lib*/libclang{,-[0-9]*}.so* \
        /Library/Developer/CommandLineTools/usr/lib/libclang.dylib \
        /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib/libclang.dylib \
        /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib; do
        [ -e "$file" ] && return 0
    done
    return 1
}

svf_as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

svf_has_recent_cargo() {
    svf_has cargo || return 1
    local minor
    minor=$(cargo --version | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge "$svf_rust_minor" ]
}

svf_install_tools() {
    local apt=() brew=()
    svf_has git || { apt+=(git); brew+=(git); }
    svf_has cmake || { apt+=(cmake); brew+=(cmake); }
    svf_has_libclang || { apt+=(libclang-dev); brew+=(llvm); }
    svf_has curl || svf_has_recent_cargo || apt+=(curl ca-certificates)
    [ -z "${svf_for_tests:-}" ] || svf_has python3 || { apt+=(python3); brew+=(python3); }
    # Debian has what makes virtual environments in a package of its own.
    [ -z "${svf_for_tests:-}" ] || python3 -c 'import ensurepip' 2>/dev/null || apt+=(python3-venv)
    if ! { svf_has cc && svf_has c++ && svf_has make; }; then
        if [ "$(uname)" = Darwin ]; then
            svf_say "a compiler is missing; starting Apple's installer. Run this again when it has finished."
            xcode-select --install
            return 1
        fi
        apt+=(build-essential)
    fi

    if [ "$(uname)" = Darwin ]; then
        [ ${#brew[@]} -eq 0 ] && return 0
        svf_has brew || { svf_say "missing: ${brew[*]}. Install Homebrew (https://brew.sh) and run this again."; return 1; }
        svf_say "installing with brew: ${brew[*]}"
        brew install "${brew[@]}"
        return
    fi
    [ ${#apt[@]} -eq 0 ] && return 0
    if ! svf_has apt-get; then
        svf_say "missing (by Debian's names): ${apt[*]}. Install them with this system's package manager and run this again."
        return 1
    fi
    svf_say "installing with apt-get: ${apt[*]}"
    svf_as_root apt-get update -qq &&
        svf_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${apt[@]}"
}

# A clang that knows half precision and has its sanitizers, as tests/emulated/compiler.rs looks for it.
svf_has_clang() {
    local compiler
    for compiler in clang++-{16,17,18,19,20,21,22} clang++; do
        svf_has "$compiler" && echo 'int main() { return (int) (_Float16) 0; }' |
            "$compiler" -x c++ -fsanitize=address,undefined - -o /dev/null 2>/dev/null && return 0
    done
    return 1
}

svf_install_clang() {
    svf_has_clang && return 0
    svf_has apt-get || return 1
    svf_as_root apt-get update -qq || return 1
    local version
    for version in 16 17 18 19 20 21 22; do
        if apt-cache show "clang-$version" >/dev/null 2>&1; then
            svf_say "installing with apt-get: clang-$version libclang-rt-$version-dev"
            svf_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                "clang-$version" "libclang-rt-$version-dev"
            return
        fi
    done
    return 1
}

svf_install_cargo() {
    # An earlier run may have installed it, before the shell knew.
    if ! svf_has cargo && [ -d "$HOME/.cargo/bin" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    svf_has_recent_cargo && return 0
    if svf_has rustup; then
        svf_say "cargo is older than 1.$svf_rust_minor; updating it with rustup"
        rustup update stable
    else
        svf_say "installing cargo with rustup (https://rustup.rs) into $HOME/.cargo"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    svf_has_recent_cargo && return 0
    svf_say "$(command -v cargo || echo cargo) is still older than 1.$svf_rust_minor; let a newer one come first on the PATH"
    return 1
}

# cargo, once more where build.rs found that patches or kernels had changed, and had llama.cpp rebuilt.
svf_cargo() {
    cargo "$@" && return
    local changed
    changed=$(find "${CARGO_TARGET_DIR:-target}/release/build" -path '*/out/build/svf/changed' 2>/dev/null)
    [ -n "$changed" ] || return
    svf_say "llama.cpp is rebuilt with this version's patches"
    cargo "$@"
}

svf_setup() {
    svf_install_tools && svf_install_cargo || return 1
    [ -z "${svf_for_tests:-}" ] || svf_install_clang ||
        svf_say "no clang 16 or later: the tests of GPU kernels will be skipped"
}

if ! svf_setup; then
    # Sourced, `return` works and leaves the caller's shell alone.
    return 1 2>/dev/null || exit 1
fi

#!/bin/sh
# Adds the target wasm32-wasip2, for which the guests are compiled, to the Rust toolchain in use. Prints nothing if the target exists.
#
# 1. With `rustup target add`, where rustup's server is reachable.
# 2. Otherwise, on a machine with Debian's packages, builds the standard library from Debian's rust-src of exactly rustc's version, with
#    Debian's wasi-libc. It uses a private package list and installs only the finished target, in the toolchain's own folder. To undo it: rm
#    -r "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2"
#
# WASM_TARGET_FROM=rustup or =debian tries only this way.
set -eu

target=wasm32-wasip2
from=${WASM_TARGET_FROM:-rustup debian}
work=
staged=

main() {
    # The guests must not be built with the flags of a host's build.
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_TARGET_DIR RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
    command -v rustc >/dev/null && command -v cargo >/dev/null || fail "rustc and cargo are missing: install Rust first"
    version=$(rustc --version | cut -d ' ' -f 2)
    sysroot=$(rustc --print sysroot)
    host=$(rustc -vV | sed -n 's/^host: //p')
    is_there "$sysroot" && return

    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    work=$(mktemp -d)
    for way in $from; do
        case $way in
            rustup) from_rustup && return ;;
            debian) from_debian && return ;;
            *) fail "WASM_TARGET_FROM is '$way': say rustup or debian" ;;
        esac
        whys=${whys:+$whys; }$why
        # Short errors from the output of the tool itself.
        grep -iE '^(error|err|E):? ' "$work/log" 2>/dev/null | head -n 3 | sed "s|^|$0: |" >&2 || true
    done
    fail "the Rust target $target is missing and could not be built ($whys): run 'rustup target add $target' where rustup's server is reachable, or, on Debian, configure a mirror for apt that has rust-src $version and wasi-libc (testing, unstable or backports); then run again"
}

# Returns whether a folder is a toolchain with the complete target.
is_there() { # is_there SYSROOT
    libraries=$1/lib/rustlib/$target/lib
    [ -e "$libraries/self-contained/crt1-reactor.o" ] && ls "$libraries"/libstd-*.rlib >/dev/null 2>&1
}

from_rustup() {
    why="rustup is not installed"
    command -v rustup >/dev/null || return
    echo "$0: adding the Rust target $target"
    # An unreachable server gets two minutes. Without a limit rustup would try for much longer.
    limit=
    if command -v timeout >/dev/null; then limit="timeout 120"; fi
    why="rustup could not add it"
    RUSTUP_MAX_RETRIES=1 $limit rustup target add "$target" >"$work/log" 2>&1 || return
    why="rustup added it to another toolchain than rustc's at $sysroot"
    is_there "$sysroot"
}

from_debian() {
    why="this system is not Debian"
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return
    why="rustc has no wasm-component-ld or cannot be added to at $sysroot"
    [ -x "$sysroot/lib/rustlib/$host/bin/wasm-component-ld" ] && [ -w "$sysroot/lib/rustlib" ] || return
    echo "$0: building the Rust target $target from Debian's rust-src $version (a minute or two)"
    fetch_packages && shadow_sysroot && build_library && try_out && move_into_place
}

# Leaves the two packages, unpacked, in $work/debian.
fetch_packages() {
    why="apt knows no Debian mirror"
    mirrors=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n -e 's/^Debian Debian //p' -e 's/^.* \([a-z]*:.*\/debian\/\)$/\1/p' | sort -u)
    [ -n "$mirrors" ] || return
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/debian"
    signed=
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    if [ -e $keyring ]; then signed="[signed-by=$keyring]"; fi
    for mirror in $mirrors; do
        for suite in stable stable-backports testing sid; do
            echo "deb $signed $mirror $suite main"
        done
    done >"$work/apt/sources.list"

    why="apt found no rust-src $version and wasi-libc on Debian's mirror"
    # A mirror may lack some of the suites, so only the packages found in the end count.
    apt apt-get -q update >"$work/log" 2>&1 || true
    source_version=$(apt apt-cache madison rust-src 2>>"$work/log" | cut -d '|' -f 2 | tr -d ' ' |
        grep -F -- "$version+" | head -n 1) || return
    [ -n "$source_version" ] || return
    (cd "$work/debian" && apt apt-get -q download "rust-src=$source_version" wasi-libc >>"$work/log" 2>&1) || return
    for package in "$work"/debian/*.deb; do
        dpkg-deb -x "$package" "$work/debian" || return
    done

    why="Debian's packages have not the files that were expected"
    libc=$work/debian/usr/lib/$target
    source=$(echo "$work"/debian/usr/src/rustc-*)
    [ -e "$libc/libc.a" ] && [ -e "$libc/crt1-reactor.o" ] && [ -e "$source/library/std/Cargo.toml" ]
}

# Runs an apt tool on the private lists, with the proxy and keys of the machine.
apt() {
    "$@" -o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User= \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o Acquire::IndexTargets::deb::CNF::DefaultEnabled=false -o Acquire::http::Timeout=20 -o Acquire::Retries=1
}

# Creates a toolchain of links with room for the source and the new target, so that the real one changes only at the end.
shadow_sysroot() {
    shadow=$work/sysroot
    mkdir -p "$shadow/lib/rustlib/src" "$shadow/lib/rustlib/$target/lib/self-contained"
    for entry in "$sysroot"/lib/*; do
        [ "$entry" = "$sysroot/lib/rustlib" ] || ln -s "$entry" "$shadow/lib/"
    done
    for entry in "$sysroot"/lib/rustlib/*; do
        case ${entry##*/} in src | "$target") ;; *) ln -s "$entry" "$shadow/lib/rustlib/" ;; esac
    done
    ln -s "$source" "$shadow/lib/rustlib/src/rust"
    cp "$libc/crt1-command.o" "$libc/crt1-reactor.o" "$libc/libc.a" "$shadow/lib/rustlib/$target/lib/self-contained/"
    printf '#!/bin/sh\nexec "%s/bin/rustc" --sysroot "%s" "$@"\n' "$sysroot" "$shadow" >"$work/rustc"
    chmod +x "$work/rustc"
}

build_library() {
    why="building Rust's standard library failed"
    empty_crate "$work/empty" 'fn main() {}'
    # With bitcode, so that guests can be optimized across crates. Building the library requires the bootstrap flag.
    (cd "$work/empty" && RUSTC=$work/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
        cargo build --release --target "$target" \
        -Zbuild-std=std,panic_abort,panic_unwind,proc_macro) >"$work/log" 2>&1 || return
    for library in "$work/empty/target/$target"/release/deps/*.rlib; do
        cp "$library" "$shadow/lib/rustlib/$target/lib/"
    done
    is_there "$shadow"
}

# Checks that the target builds a component with the settings of this project.
try_out() {
    why="the library was built, but a small guest does not compile with it"
    empty_crate "$work/guest" 'fn main() { println!("{:?}", std::env::args().collect::<Vec<_>>()); }'
    (cd "$work/guest" && RUSTC=$work/rustc cargo build --release --target "$target") >"$work/log" 2>&1 || return
    # Version 13 of the binary format, layer 1: a component.
    header=$(od -An -tx1 -N8 "$work/guest/target/$target/release/trial.wasm" | tr -d ' \n')
    [ "$header" = 0061736d0d000100 ]
}

move_into_place() {
    why="the finished target could not be moved to $sysroot"
    staged=$sysroot/lib/rustlib/.$target.$$
    cp -R "$shadow/lib/rustlib/$target" "$staged" || return
    # Only a target without a standard library, or one added meanwhile by another run of this script, can be in the way.
    is_there "$sysroot" || rm -rf "$sysroot/lib/rustlib/$target"
    [ -e "$sysroot/lib/rustlib/$target" ] || mv "$staged" "$sysroot/lib/rustlib/$target" || return
    is_there "$sysroot"
}

empty_crate() { # empty_crate FOLDER MAIN
    mkdir -p "$1/src"
    echo "$2" >"$1/src/main.rs"
    cat >"$1/Cargo.toml" <<'MANIFEST'
[package]
name = "trial"
version = "0.0.0"
edition = "2024"

[profile.release]
codegen-units = 1
lto = true
opt-level = "s"
panic = "abort"
strip = true

[workspace]
MANIFEST
}

clean_up() {
    if [ -n "$work" ]; then rm -rf "$work"; fi
    if [ -n "$staged" ]; then rm -rf "$staged"; fi
}

fail() {
    echo "$0: $1" >&2
    exit 1
}

why=
whys=
main

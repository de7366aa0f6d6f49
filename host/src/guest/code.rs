//! The code of a component: from disk where it was compiled before, else compiled now and kept. The one place that trusts
//! bytes to be machine code.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::code_cache::{CodeCache, CodeKey, Hold, Kept};
use super::compiler::{Compiling, Target};
use super::digest::Digest;
use super::loader::LoadError;
use super::settings::Options;

/// Where code comes from.
#[derive(Debug)]
pub(super) struct CodeSource {
    /// None where nothing is kept.
    cache: Option<CodeCache>,
    compiling: Compiling,
}

/// A component's code, ready to be linked.
pub(super) struct Code {
    pub(super) component: Component,
    pub(super) origin: Origin,
    /// Keeps the file, where there is one, from being the next to go.
    pub(super) hold: Option<Hold>,
}

/// Where code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Compiled,
    Kept,
}

impl Origin {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Origin::Compiled => "compiled",
            Origin::Kept => "kept",
        }
    }
}

impl CodeSource {
    /// Opens the cache. One that cannot be used is said and done without.
    pub(super) fn new(options: &Options) -> Self {
        let open = |path: &PathBuf| match CodeCache::open(path) {
            Ok(cache) => Some(cache),
            Err(problem) => {
                tracing::warn!(
                    folder = %path.display(), %problem,
                    "compiled code is not kept: each start compiles anew; [server] code_cache names another folder, or \"off\""
                );
                None
            }
        };
        Self {
            cache: options.code_cache.as_ref().and_then(open),
            compiling: Compiling::new(options.compiler.clone(), options.compile_timeout),
        }
    }

    /// The code of a component. Blocks: milliseconds where it is kept, else as long as compiling takes.
    ///
    /// # Errors
    /// When it does not compile.
    pub(super) fn of(
        &self,
        bytes: &[u8],
        digest: Digest,
        target: Target<'_>,
    ) -> Result<Code, LoadError> {
        let key = CodeKey {
            component: digest,
            engine: target.fingerprint,
        };
        if let Some(code) = self.kept(&key, target.engine) {
            return Ok(code);
        }
        let turn = self.compiling.turn(&key.to_string());
        // Whoever had the turn before may have made just this.
        if let Some(code) = self.kept(&key, target.engine) {
            return Ok(code);
        }
        let compiled = self.compiling.compile(bytes, target, &turn)?;
        let kept = self.cache.as_ref().and_then(|cache| {
            let published = cache.publish(&key, &compiled);
            published
                .inspect_err(|error| tracing::warn!(%error, "compiled code cannot be kept"))
                .ok()
        });
        drop(turn);
        let mapped = kept.and_then(|kept| map(target.engine, kept));
        let (component, hold) = match mapped {
            Some((component, hold)) => (component, Some(hold)),
            None => (copy(target.engine, &compiled)?, None),
        };
        Ok(Code {
            component,
            origin: Origin::Compiled,
            hold,
        })
    }

    fn kept(&self, key: &CodeKey, engine: &Engine) -> Option<Code> {
        let kept = self.cache.as_ref()?.fetch(key)?;
        let (component, hold) = map(engine, kept)?;
        Some(Code {
            component,
            origin: Origin::Kept,
            hold: Some(hold),
        })
    }

    /// Lets nothing be compiled any more, and ends what is.
    pub(super) fn stop(&self) {
        self.compiling.stop();
    }
}

/// Maps kept code; copies it where it cannot be mapped, as from a file system without programs (`noexec`).
fn map(engine: &Engine, kept: Kept) -> Option<(Component, Hold)> {
    let Kept { mut file, hold } = kept;
    // By descriptor: what is mapped is the file that was checked, whatever its name leads to by now.
    let path = descriptor(&file);
    let loaded = load(engine, Trusted::File(&path)).or_else(|error| {
        tracing::debug!(%error, "compiled code cannot be mapped and is copied");
        let mut code = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut code)?;
        load(engine, Trusted::Copy(&code))
    });
    match loaded {
        Ok(component) => Some((component, hold)),
        Err(error) => {
            tracing::warn!(%error, "kept code cannot be loaded");
            None
        }
    }
}

fn copy(engine: &Engine, code: &[u8]) -> Result<Component, LoadError> {
    load(engine, Trusted::Copy(code)).map_err(|error| LoadError::NotCompiled {
        reason: format!("the code cannot be loaded: {error:#}"),
    })
}

/// A path of an open file.
fn descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Machine code that this host made.
enum Trusted<'a> {
    File(&'a Path),
    Copy(&'a [u8]),
}

#[expect(
    unsafe_code,
    reason = "compiled code is run: the one place where the host trusts bytes"
)]
fn load(engine: &Engine, code: Trusted<'_>) -> wasmtime::Result<Component> {
    // SAFETY: the code must be what `precompile_component` of this very library returned, and a mapped file must not change.
    // A copy comes from `Compiling`, our own binary's answer over a file that only it and we hold, or from a checked file.
    // A file was written by us, or carries in its name a hash of all its bytes under a key that only this user can read; it
    // was checked through the descriptor that is mapped; it is the user's own, read-only, and we never write to it again
    // (a replacement is a new file). Between the check and the end of the mapping only a process of the same user could
    // change it in place, and such a one could as well change this process. That engine and library agree is checked by
    // wasmtime, from what it wrote into the file.
    unsafe {
        match code {
            Trusted::File(path) => Component::deserialize_file(engine, path),
            Trusted::Copy(bytes) => Component::deserialize(engine, bytes),
        }
    }
}

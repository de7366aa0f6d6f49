//! Loads the compiled code of a component: from disk if it was compiled before, else by compiling and caching it. This is the only module
//! that trusts bytes to be machine code.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::code_cache::{CachedCode, CodeCache, CodeKey, FileInUse};
use super::compiler::{CompileTarget, CompilerPool};
use super::digest::ComponentDigest;
use super::loader::LoadError;
use crate::settings::RuntimeOptions;

/// The source of compiled code: a cache and a compiler.
#[derive(Debug)]
pub(crate) struct CodeSource {
    /// `None` if code is not cached.
    cache: Option<CodeCache>,
    compiling: CompilerPool,
}

/// A component's code, ready to be linked.
pub(crate) struct CompiledCode {
    pub(crate) component: Component,
    pub(crate) origin: CodeOrigin,
    /// Protects the cache file, if there is one, from eviction.
    pub(crate) file_in_use: Option<FileInUse>,
}

/// The way in which code was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeOrigin {
    Compiled,
    Cached,
}

impl CodeOrigin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            CodeOrigin::Compiled => "compiled",
            CodeOrigin::Cached => "kept",
        }
    }
}

impl CodeSource {
    /// Opens the cache. If it cannot be used, logs a warning and continues without one.
    pub(crate) fn new(options: &RuntimeOptions) -> Self {
        let open = |path: &PathBuf| match CodeCache::open(path) {
            Ok(cache) => Some(cache),
            Err(problem) => {
                tracing::warn!(
                    folder = %path.display(), %problem,
                    "compiled code is not cached, so each start compiles again; [server] code_cache can name another folder, or \"off\""
                );
                None
            }
        };
        Self {
            cache: options.code_cache.as_ref().and_then(open),
            compiling: CompilerPool::new(options.compiler.clone(), options.compile_timeout),
        }
    }

    /// Returns the code of a component. Blocks: for milliseconds if the code is cached, else for as long as compiling takes.
    ///
    /// # Errors
    /// Fails if the component does not compile.
    pub(crate) fn of(
        &self,
        bytes: &[u8],
        digest: ComponentDigest,
        target: CompileTarget<'_>,
    ) -> Result<CompiledCode, LoadError> {
        let key = CodeKey {
            component: digest,
            engine: target.fingerprint,
        };
        if let Some(code) = self.cached(&key, target.engine) {
            return Ok(code);
        }
        let permit = self.compiling.permit(&key.to_string());
        // The previous holder of the permit may have compiled the same component.
        if let Some(code) = self.cached(&key, target.engine) {
            return Ok(code);
        }
        let compiled = self.compiling.compile(bytes, target, &permit)?;
        let cached = self.cache.as_ref().and_then(|cache| {
            let published = cache.publish(&key, &compiled);
            published
                .inspect_err(|error| tracing::warn!(%error, "compiled code cannot be cached"))
                .ok()
        });
        drop(permit);
        let mapped = cached.and_then(|cached| map(target.engine, cached));
        let (component, file_in_use) = match mapped {
            Some((component, file_in_use)) => (component, Some(file_in_use)),
            None => (copy(target.engine, &compiled)?, None),
        };
        Ok(CompiledCode {
            component,
            origin: CodeOrigin::Compiled,
            file_in_use,
        })
    }

    fn cached(&self, key: &CodeKey, engine: &Engine) -> Option<CompiledCode> {
        let cached = self.cache.as_ref()?.fetch(key)?;
        let (component, file_in_use) = map(engine, cached)?;
        Some(CompiledCode {
            component,
            origin: CodeOrigin::Cached,
            file_in_use: Some(file_in_use),
        })
    }

    /// Ends compilations in progress and starts no more.
    pub(crate) fn stop(&self) {
        self.compiling.stop();
    }
}

/// Maps cached code. Copies it if it cannot be mapped, for example because the file system is mounted with `noexec`.
fn map(engine: &Engine, cached: CachedCode) -> Option<(Component, FileInUse)> {
    let CachedCode {
        mut file,
        file_in_use,
    } = cached;
    // The path goes through the descriptor, so the mapped file is the one that was checked, even if its name refers to another file by now.
    let path = descriptor(&file);
    let loaded = load(engine, TrustedCode::File(&path)).or_else(|error| {
        tracing::debug!(%error, "compiled code cannot be mapped, so it is copied");
        let mut code = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut code)?;
        load(engine, TrustedCode::Copy(&code))
    });
    match loaded {
        Ok(component) => Some((component, file_in_use)),
        Err(error) => {
            tracing::warn!(%error, "cached code cannot be loaded");
            None
        }
    }
}

fn copy(engine: &Engine, code: &[u8]) -> Result<Component, LoadError> {
    load(engine, TrustedCode::Copy(code)).map_err(|error| LoadError::NotCompiled {
        reason: format!("the code cannot be loaded: {error:#}"),
    })
}

/// Returns a path that refers to an open file.
fn descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Machine code that this host made.
enum TrustedCode<'a> {
    File(&'a Path),
    Copy(&'a [u8]),
}

#[expect(
    unsafe_code,
    reason = "compiled code is run: the one place where the host trusts bytes"
)]
fn load(engine: &Engine, code: TrustedCode<'_>) -> wasmtime::Result<Component> {
    // SAFETY: the code must be the output of `precompile_component` of this very library, and a mapped file must not change.
    // - A copy comes from `CompilerPool` or from a checked file. `CompilerPool` returns the output of our own binary, from a file that
    //   only that process and this one hold.
    // - A file was written by us, or carries in its name a hash of all its bytes under a key that only this user can read. It was checked
    //   through the descriptor that is mapped. It belongs to the user, is read-only, and is never written to again (a replacement is a new
    //   file).
    // - Between the check and the end of the mapping, only a process of the same user could change the file in place. Such a process could
    //   change this process as well.
    // - wasmtime checks that the engine and the library match, from the metadata that it wrote into the file.
    unsafe {
        match code {
            TrustedCode::File(path) => Component::deserialize_file(engine, path),
            TrustedCode::Copy(bytes) => Component::deserialize(engine, bytes),
        }
    }
}

//! Decides which compiled code an engine accepts. An `EngineSettings` holds the settings that affect the code, in a form that can be
//! passed to another process. An `EngineFingerprint` shows whether two engines agree.

use std::fmt;
use std::hash::{Hash as _, Hasher};
use std::str::FromStr;

use wasmtime::Engine;

use super::GuestWorld;
use crate::hex::hex;

/// The settings of an engine that affect the code it compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EngineSettings {
    pub(crate) world: GuestWorld,
    /// Address space of a linear memory, in bytes.
    pub(crate) reservation: u64,
    /// Guard region after it, in bytes. `None` uses wasmtime's default.
    pub(crate) guard: Option<u64>,
}

/// Error for a text that contains no valid settings. The host writes these texts itself, so such a text comes from elsewhere.
#[derive(Debug)]
pub(crate) struct BadEngineSettings;

impl fmt::Display for EngineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = match self.world {
            GuestWorld::Wasi02 => "0.2",
            GuestWorld::Wasi03 => "0.3",
        };
        write!(f, "{world}/{}", self.reservation)?;
        match self.guard {
            Some(guard) => write!(f, "/{guard}"),
            None => Ok(()),
        }
    }
}

impl FromStr for EngineSettings {
    type Err = BadEngineSettings;

    fn from_str(text: &str) -> Result<Self, BadEngineSettings> {
        let mut parts = text.split('/');
        let world = match parts.next() {
            Some("0.2") => GuestWorld::Wasi02,
            Some("0.3") => GuestWorld::Wasi03,
            _ => return Err(BadEngineSettings),
        };
        let number = |part: &str| part.parse().map_err(|_| BadEngineSettings);
        let reservation = parts.next().ok_or(BadEngineSettings).and_then(number)?;
        let guard = parts.next().map(number).transpose()?;
        match parts.next() {
            None => Ok(Self {
                world,
                reservation,
                guard,
            }),
            Some(_) => Err(BadEngineSettings),
        }
    }
}

/// A hash of everything that decides whether an engine accepts code: wasmtime's version, the processor's features, and the settings. If two
/// fingerprints are equal, the code of one engine runs on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EngineFingerprint([u8; 16]);

impl EngineFingerprint {
    pub(crate) fn of(engine: &Engine, world: GuestWorld) -> Self {
        let mut hash = Blake3Hasher(blake3::Hasher::new());
        world.hash(&mut hash);
        engine.precompile_compatibility_hash().hash(&mut hash);
        let mut fingerprint = [0; 16];
        hash.0.finalize_xof().fill(&mut fingerprint);
        Self(fingerprint)
    }
}

impl fmt::Display for EngineFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A hasher with the same result in every process, unlike the standard library's.
struct Blake3Hasher(blake3::Hasher);

impl Hasher for Blake3Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{compiling_engine, engine};
    use crate::settings::RuntimeOptions;

    #[test]
    fn engine_settings_pass_through_a_command_line() {
        for guard in [None, Some(65_536)] {
            let engine_settings = EngineSettings {
                world: GuestWorld::Wasi03,
                reservation: 4 << 30,
                guard,
            };
            assert_eq!(
                engine_settings.to_string().parse().ok(),
                Some(engine_settings)
            );
        }
        for text in ["", "0.2", "0.4/1", "0.2/x", "0.2/1/2/3"] {
            assert!(text.parse::<EngineSettings>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_engine_that_only_compiles_agrees_with_the_one_that_runs() {
        let options = RuntimeOptions {
            instances_max: 1,
            ..RuntimeOptions::default()
        };
        let mut seen = Vec::new();
        for world in [GuestWorld::Wasi02, GuestWorld::Wasi03] {
            let (running, engine_settings) = engine(world, &options).unwrap();
            let compiling = compiling_engine(engine_settings).unwrap();
            let fingerprint = EngineFingerprint::of(&running, world);
            assert_eq!(fingerprint, EngineFingerprint::of(&compiling, world));
            seen.push(fingerprint);
        }
        let compact = EngineSettings {
            world: GuestWorld::Wasi02,
            reservation: 1 << 20,
            guard: Some(65_536),
        };
        let compact = compiling_engine(compact).unwrap();
        seen.push(EngineFingerprint::of(&compact, GuestWorld::Wasi02));
        assert!(seen[0] != seen[1] && seen[0] != seen[2], "{seen:?}");
    }
}

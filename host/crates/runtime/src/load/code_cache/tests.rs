//! Tests which files the cache accepts. The cache sees only bytes, so these tests use no machine code.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;
use crate::engine::{GuestWorld, engine};
use crate::settings::RuntimeOptions;

const CODE: &[u8] = b"code of a component";

fn key(component: &str, world: GuestWorld) -> CodeKey {
    let options = RuntimeOptions {
        instances_max: 1,
        ..RuntimeOptions::default()
    };
    let (engine, _) = engine(world, &options).unwrap();
    CodeKey {
        component: ComponentDigest::of(component.as_bytes()),
        engine: EngineFingerprint::of(&engine, world),
    }
}

fn a_key() -> CodeKey {
    key("a", GuestWorld::Wasi02)
}

fn open(folder: &tempfile::TempDir) -> CodeCache {
    CodeCache::open(&folder.path().join("code")).unwrap()
}

fn content(cached: CachedCode) -> Vec<u8> {
    let mut content = Vec::new();
    let mut file = cached.file;
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

fn code_files(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path().join("code")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(SUFFIX));
    paths
}

/// Publishes a file, lets `harm` damage it, and checks that the cache does not return the file, removes it, and accepts another one in its
/// place.
fn not_taken_after(harm: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder).publish(&a_key(), CODE).unwrap());
    harm(&code_files(&folder)[0]);
    let cache = open(&folder);
    assert!(cache.fetch(&a_key()).is_none(), "it is not taken");
    assert!(code_files(&folder).is_empty(), "it is removed");
    drop(cache.publish(&a_key(), CODE).unwrap());
    assert_eq!(content(cache.fetch(&a_key()).unwrap()), CODE);
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(OWNER_READS)).unwrap();
}

#[test]
fn published_code_is_found_by_the_next_process_under_its_key_only() {
    let folder = tempfile::tempdir().unwrap();
    assert!(open(&folder).fetch(&a_key()).is_none());
    assert_eq!(
        content(open(&folder).publish(&a_key(), CODE).unwrap()),
        CODE
    );
    let cache = open(&folder);
    assert_eq!(content(cache.fetch(&a_key()).unwrap()), CODE);
    assert!(cache.fetch(&key("b", GuestWorld::Wasi02)).is_none());
    assert!(cache.fetch(&key("a", GuestWorld::Wasi03)).is_none());
}

#[test]
fn a_file_with_a_changed_byte_is_not_used() {
    not_taken_after(|path| rewrite(path, |bytes| bytes[3] ^= 1));
}

#[test]
fn a_truncated_or_longer_file_is_not_used() {
    not_taken_after(|path| rewrite(path, |bytes| bytes.truncate(bytes.len() - 1)));
    not_taken_after(|path| rewrite(path, Vec::clear));
    not_taken_after(|path| rewrite(path, |bytes| bytes.push(0)));
}

#[test]
fn a_file_that_others_could_write_is_not_taken() {
    not_taken_after(|path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    });
}

#[test]
fn a_symbolic_link_in_the_cache_is_not_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    not_taken_after(|path| {
        fs::rename(path, &target).unwrap();
        symlink(&target, path).unwrap();
    });
    assert_eq!(fs::read(&target).unwrap(), CODE, "the target is left alone");
}

#[test]
fn code_of_another_engine_or_component_under_this_name_is_foreign() {
    for other in [key("b", GuestWorld::Wasi02), key("a", GuestWorld::Wasi03)] {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(&folder);
        drop(cache.publish(&other, CODE).unwrap());
        let path = &code_files(&folder)[0];
        let name = path.file_name().unwrap().to_str().unwrap();
        let renamed = name.replace(&other.to_string(), &a_key().to_string());
        fs::rename(path, path.with_file_name(renamed)).unwrap();
        assert!(cache.fetch(&a_key()).is_none());
        assert!(code_files(&folder).is_empty());
    }
}

#[test]
fn code_hashed_with_another_key_is_not_used() {
    not_taken_after(|path| rewrite(&path.with_file_name(KEY), |key| key[0] ^= 1));
    not_taken_after(|path| fs::remove_file(path.with_file_name(KEY)).unwrap());
}

#[test]
fn a_key_that_is_damaged_or_was_readable_to_others_is_replaced() {
    not_taken_after(|path| rewrite(&path.with_file_name(KEY), |key| key.truncate(31)));
    not_taken_after(|path| {
        let key = path.with_file_name(KEY);
        fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    });
}

#[test]
fn the_cache_folder_and_its_files_are_accessible_only_to_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder);
    drop(cache.publish(&a_key(), CODE).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = folder.path().join("code");
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join(KEY)), 0o600);
    assert_eq!(mode(&code_files(&folder)[0]), 0o400);
    assert_eq!(fs::read_dir(path).unwrap().count(), 2, "no draft is left");
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let fault = CodeCache::open(folder.path()).unwrap_err();
        assert!(
            matches!(fault, CacheFolderError::Open(found) if found == mode),
            "{fault}"
        );
    }
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(CodeCache::open(&file).is_err());
}

#[test]
fn a_folder_or_file_of_another_user_is_refused() {
    // Only root can give a file away. Without root, a folder of root is used instead.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs");
    fs::create_dir(&path).unwrap();
    let theirs = match std::os::unix::fs::chown(&path, Some(65_534), None) {
        Ok(()) => path,
        Err(_) => PathBuf::from("/usr"),
    };
    let fault = CodeCache::open(&theirs).unwrap_err();
    assert!(matches!(fault, CacheFolderError::OtherOwner(_)), "{fault}");
}

#[test]
fn the_least_recently_used_file_is_evicted_unless_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = CacheBounds {
        files_max: 2,
        bytes_max: 1 << 20,
    };
    let cache = CodeCache::open_within(&folder.path().join("code"), bounds).unwrap();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| key(name, GuestWorld::Wasi02));
    let age = |cached: &CachedCode, seconds: u64| {
        let path = folder.path().join("code").join(&cached.file_in_use.name);
        let then = fs::metadata(&path).unwrap().modified().unwrap()
            - std::time::Duration::from_secs(seconds);
        File::open(path).unwrap().set_modified(then).unwrap();
    };
    let in_use = cache.publish(&a, CODE).unwrap();
    age(&in_use, 300);
    let idle = cache.publish(&b, CODE).unwrap();
    age(&idle, 200);
    drop(idle);
    drop(cache.publish(&c, CODE).unwrap());
    assert!(cache.fetch(&b).is_none(), "the oldest that nobody uses");
    assert!(cache.fetch(&a).is_some() && cache.fetch(&c).is_some());
    // A fetch counts as a use: `a` was the oldest and no longer is.
    drop(in_use);
    age(&cache.fetch(&c).unwrap(), 100);
    drop(cache.publish(&d, CODE).unwrap());
    assert!(cache.fetch(&c).is_none());
    assert!(cache.fetch(&a).is_some() && cache.fetch(&d).is_some());
}

#[test]
fn the_bytes_are_bounded_but_the_newest_file_is_always_kept() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = CacheBounds {
        files_max: 10,
        bytes_max: CODE.len() as u64,
    };
    let cache = CodeCache::open_within(&folder.path().join("code"), bounds).unwrap();
    drop(cache.publish(&a_key(), CODE).unwrap());
    drop(
        cache
            .publish(&key("b", GuestWorld::Wasi02), &[7; 100])
            .unwrap(),
    );
    assert_eq!(code_files(&folder).len(), 1);
    assert!(cache.fetch(&key("b", GuestWorld::Wasi02)).is_some());
}

#[test]
fn concurrent_writers_leave_one_complete_file() {
    let folder = tempfile::tempdir().unwrap();
    let key = a_key();
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                // Acts like eight processes: each creates the folder and the key, and publishes.
                let cache = open(&folder);
                for _ in 0..20 {
                    let cached = cache.publish(&key, &CODE.repeat(1000)).unwrap();
                    assert_eq!(content(cached), CODE.repeat(1000));
                }
            });
        }
    });
    assert_eq!(code_files(&folder).len(), 1);
    let cached = open(&folder).fetch(&key).unwrap();
    assert_eq!(content(cached), CODE.repeat(1000));
}

#[test]
fn a_replaced_file_stays_complete_for_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder);
    let old = cache.publish(&a_key(), CODE).unwrap();
    drop(cache.publish(&a_key(), b"other code").unwrap());
    assert_eq!(content(old), CODE);
    assert_eq!(content(cache.fetch(&a_key()).unwrap()), b"other code");
}

#[test]
fn old_unfinished_files_of_a_killed_host_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let [old, new] = ["old", "new"].map(|name| folder.path().join(format!("code/{name}.draft")));
    for path in [&old, &new] {
        fs::write(path, "half").unwrap();
    }
    let written = fs::metadata(&old).unwrap().modified().unwrap();
    let earlier = written - std::time::Duration::from_secs(2 * 3600);
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(earlier)
        .unwrap();
    let cache = open(&folder);
    assert!(!old.exists() && new.exists());
    assert!(cache.fetch(&a_key()).is_none());
}

//! Requirements 1 and 2: the statistics of ids from the real generator, and ids of hosts that start at the same moment.

use std::collections::BTreeSet;

use cloakroom_session::record::SessionId;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;

use crate::{id_of, script};

/// Returns the six bits of a character of base64url.
fn sextet(character: u8) -> usize {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = ALPHABET.iter().position(|known| *known == character);
    place.expect("base64url")
}

/// 100,000 ids: all distinct; each bit of each position is set in half of them, and differs between successive ids in half of the cases.
#[test]
fn session_ids_are_unique_and_their_bits_are_uniform() {
    const IDS: usize = 100_000;
    let ids: Vec<_> = (0..IDS).map(|_| SessionId::generate()).collect();
    let distinct: BTreeSet<_> = ids.iter().map(SessionId::as_str).collect();
    assert_eq!(distinct.len(), IDS);
    let mut ones = [[0_usize; 6]; 32];
    let mut kept = [[0_usize; 6]; 32];
    let mut before = [0_usize; 32];
    for id in &ids {
        let bytes = id.as_str().as_bytes();
        assert_eq!(bytes.len(), 32, "192 bits");
        for (place, byte) in bytes.iter().enumerate() {
            let bits = sextet(*byte);
            for bit in 0..6 {
                ones[place][bit] += bits >> bit & 1;
                kept[place][bit] += !(bits ^ before[place]) >> bit & 1;
            }
            before[place] = bits;
        }
    }
    // Six standard deviations of 100,000 coin tosses: 949.
    let is_even = |count: &usize| count.abs_diff(IDS / 2) < 949;
    assert!(ones.iter().flatten().all(is_even), "{ones:?}");
    assert!(kept.iter().flatten().all(is_even), "{kept:?}");
}

/// Checks that hosts started at the same time, and one killed and restarted, give different ids to the same request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_start_at_once_or_again_give_different_ids() {
    let config = Config::over("memory:").guest("/s", "fixture-session");
    let hosts: Vec<_> = (0..6).map(|_| config.start()).collect();
    let mut ids = BTreeSet::new();
    for mut host in hosts {
        for _ in 0..5 {
            let browser = Browser::new();
            script(&browser, &host, &["set n 1"]).await;
            assert!(ids.insert(id_of(&browser, &host)));
        }
        host.kill();
    }
    let again = config.start();
    let browser = Browser::new();
    script(&browser, &again, &["set n 1"]).await;
    assert!(ids.insert(id_of(&browser, &again)));
}

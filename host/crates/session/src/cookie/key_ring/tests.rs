//! Signatures against test vectors from express-session's tests and its library.

use super::*;

const ID: &str = "d7JoW4ib4H6NXslbHLUz1sQTH2aM1msl";
const WIRE: &str =
    "s%3Ad7JoW4ib4H6NXslbHLUz1sQTH2aM1msl.%2B3xsq9%2BlVPIL3rpCGreGeIpTtuJy6SImmDDGBuMELhk";

fn ring(secrets: &[&str]) -> KeyRing {
    let secrets = secrets.iter().map(|s| Secret::new(s.as_bytes().to_vec()));
    KeyRing::new(secrets.collect()).expect("usable secrets")
}

fn id(text: &str) -> SessionId {
    SessionId::from_foreign(text).expect("a usable id")
}

#[test]
fn values_are_signed_and_spelled_as_express_does() {
    for (id, secret, value) in [
        (
            "apple",
            "keyboard cat",
            "s%3Aapple.D8Y%2BpkTAmeR0PobOhY4G97PRW%2Bj7bUnP%2F5m6%2FOn1MCU",
        ),
        (
            "%",
            "keyboard cat",
            "s%3A%25.kzQ6x52kKVdF35Qh62AWk4ZekS28K5XYCXKa%2FOTZ01g",
        ),
        (
            "/foo",
            "keyboard cat",
            "s%3A%2Ffoo.paEKBtAHbV5s1IB8B2zPnzAgYmmnRPIqObW4VRYj%2FMQ",
        ),
        (ID, "keyboard cat", WIRE),
        (
            "a.b",
            "k",
            "s%3Aa.b.j%2B64Xf4O5ZEXP%2BqQsHKDtNnvAIHe3v1wxoNRgirN2JQ",
        ),
        (
            "é",
            "k",
            "s%3A%C3%A9.QbCOSDeQYNVWY2MIPavUsvmv1uFpryLSZSLb3F56UTQ",
        ),
        (
            "",
            "k",
            "s%3A.i7mQxAp9YcuXWXqUISUCW%2BUKyL63RDbjc1uYiTp%2FZiA",
        ),
    ] {
        let ring = ring(&[secret]);
        assert_eq!(encode(&ring.sign_text(id)), value);
        let verified = ring.verify(value);
        // An empty ID has a valid signature, but cannot be a row's key.
        assert_eq!(verified, SessionId::from_foreign(id), "{value}");
    }
}

#[test]
fn a_secret_may_be_any_bytes() {
    let ring = KeyRing::new(vec![Secret::new((0..=0x1f).collect())]).unwrap();
    let value = ring.sign(&id("apple"));
    assert_eq!(
        decode(&value),
        "s:apple.WYwX37lUK1ZJ678SuZkryL7p+0IObdCKdKJxWvnl4gc"
    );
}

#[test]
fn every_spelling_that_express_accepts_is_accepted() {
    let ring = ring(&["keyboard cat"]);
    let plain = decode(WIRE).into_owned();
    for value in [
        WIRE.to_owned(),
        WIRE.replace("%3A", "%3a").replace("%2B", "%2b"),
        plain.clone(),
        format!("\"{WIRE}\""),
        format!("\"{plain}\""),
        WIRE.replacen("d7", "%647", 1),
    ] {
        assert_eq!(ring.verify(&value), Some(id(ID)), "{value}");
    }
}

#[test]
fn any_deviation_from_the_signed_format_is_rejected() {
    let ring = ring(&["keyboard cat"]);
    let plain = decode(WIRE).into_owned();
    let url_safe = plain.replace('+', "-").replace('/', "_");
    let (unsigned, signature) = plain.rsplit_once('.').unwrap();
    assert_ne!(url_safe, plain);
    for value in [
        String::new(),
        "s:".to_owned(),
        "s:.".to_owned(),
        ID.to_owned(),
        unsigned.to_owned(),
        format!("{unsigned}."),
        format!("{unsigned}{signature}"),
        format!("{plain}="),
        format!("{WIRE}%3D"),
        url_safe,
        plain[..plain.len() - 1].to_owned(),
        format!("{plain}A"),
        // The last of the 43 characters has two unused bits: "k" and "l" differ only in them.
        format!("{}l", plain.strip_suffix('k').unwrap()),
        plain.replace("s:", "S:"),
        plain.replace("s:", "j:"),
        plain.replace("s:", ""),
        plain.replace("s:d", "s:D"),
        format!("s:{ID}x.{signature}"),
        format!(" {plain}"),
        format!("{plain} "),
        format!("\"{plain}"),
        format!("\"\"{plain}\"\""),
        WIRE.replace("%2B", "+").replace("%3A", "%3"),
        WIRE.replace("%2B", "%252B"),
        format!("{WIRE}%"),
        format!("{WIRE}%zz"),
        format!("{WIRE}%ff"),
        WIRE.replace("%2B", " "),
        format!("s:{}.{signature}", "x".repeat(129)),
        "s%3A".repeat(100_000),
    ] {
        assert_eq!(ring.verify(&value), None, "{value}");
    }
}

#[test]
fn a_value_with_any_flipped_bit_is_rejected() {
    let ring = ring(&["keyboard cat"]);
    let plain = decode(WIRE).into_owned().into_bytes();
    for at in 0..plain.len() {
        for bit in 0..7 {
            let mut forged = plain.clone();
            forged[at] ^= 1 << bit;
            let forged = String::from_utf8(forged).expect("still ASCII");
            assert_eq!(ring.verify(&forged), None, "{forged}");
        }
    }
}

#[test]
fn the_longest_id_fits_however_it_is_spelled() {
    let ring = ring(&["k"]);
    let longest = id(&"é".repeat(64));
    let encoded = ring.sign(&longest);
    let everything_encoded: String = decode(&encoded)
        .bytes()
        .map(|b| format!("%{b:02X}"))
        .collect();
    assert_eq!(
        ring.verify(&format!("\"{everything_encoded}\"")),
        Some(longest)
    );
}

#[test]
fn key_rings_with_a_common_secret_are_recognised() {
    let own = ring(&["a", "b"]);
    assert!(own.shares_a_secret_with(&ring(&["c", "b"])));
    assert!(!own.shares_a_secret_with(&ring(&["c", "ab"])));
}

#[test]
fn the_first_secret_signs_and_all_verify() {
    let (old, new) = (ring(&["old"]), ring(&["new", "old"]));
    let visitor = id(ID);
    assert_eq!(new.verify(&old.sign(&visitor)), Some(visitor.clone()));
    assert_eq!(old.verify(&new.sign(&visitor)), None);
    assert_eq!(new.sign(&visitor), ring(&["new"]).sign(&visitor));
    assert_eq!(
        ring(&["new"]).verify(&old.sign(&visitor)),
        None,
        "a removed secret kills its cookies"
    );
}

#[test]
fn a_ring_without_a_usable_secret_is_refused() {
    assert_eq!(KeyRing::new(Vec::new()).unwrap_err(), UnusableSecrets::None);
    let secrets = vec![Secret::new(b"k".to_vec()), Secret::new(Vec::new())];
    assert_eq!(
        KeyRing::new(secrets).unwrap_err(),
        UnusableSecrets::Empty { number: 2 }
    );
}

#[test]
fn fingerprints_are_stable_and_differ_by_session_and_secret() {
    let (one, other) = (ring(&["a", "b"]), ring(&["b", "a"]));
    let print = one.fingerprint(&id(ID));
    assert_eq!(print.len(), 32);
    assert!(
        print
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    );
    assert_eq!(print, ring(&["a"]).fingerprint(&id(ID)));
    assert_ne!(print, one.fingerprint(&id("apple")));
    assert_ne!(print, other.fingerprint(&id(ID)));
}

#[test]
fn a_fingerprint_is_no_part_of_a_signature() {
    let ring = ring(&["a"]);
    let signature = ring.secrets[0]
        .mac()
        .chain_update(ID)
        .finalize()
        .into_bytes();
    let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
    assert!(!hex.contains(&ring.fingerprint(&id(ID))));
}

#[test]
fn keys_are_derived_according_to_rfc_5869() {
    // Appendix A.1, its first block.
    let secret = Secret::new(vec![0x0b; 22]);
    let salt: Vec<u8> = (0..=0x0c).collect();
    let info: Vec<u8> = (0xf0..=0xf9).collect();
    let expected = [
        0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36, 0x2f,
        0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4,
        0xc5, 0xbf,
    ];
    assert_eq!(hkdf(&salt, &secret, &info).0.expose_secret(), &expected);
}

#[test]
fn debug_shows_no_secret() {
    let ring = ring(&["hunter2"]);
    let shown = format!("{ring:?} {:?} {:?}", ring.secrets[0], ring.verify(WIRE));
    assert!(
        !shown.contains("hunter2") && !shown.contains("104, 117"),
        "{shown}"
    );
}

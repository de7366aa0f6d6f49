//! Versions of a component that differ in their answers: the same code with another text in its data.

use crate::host::component;

/// Returns a version of the fixture `hello`. Its whole answer is [`answer`] of the same number.
///
/// # Panics
/// Above 9999, or if the fixture is missing.
pub fn hello(number: usize) -> Vec<u8> {
    changed("fixture-hello", "hello\n", &answer(number))
}

/// Returns the answer of [`hello`] with this number.
pub fn answer(number: usize) -> String {
    let answer = format!("v{number:04}\n");
    assert_eq!(answer.len(), "hello\n".len(), "it has to fit");
    answer
}

/// Returns a version of the counter that counts with another letter: `1회 접속` with the letter `회`.
///
/// # Panics
/// If the letter takes more or less than three bytes, or the counter is missing.
pub fn counter(letter: char) -> Vec<u8> {
    changed("counter", "번 접속", &format!("{letter} 접속"))
}

fn changed(name: &str, text: &str, other: &str) -> Vec<u8> {
    assert_eq!(text.len(), other.len(), "a text of the same length");
    let mut bytes = std::fs::read(component(name)).expect("the component is readable");
    let text = text.as_bytes();
    let windows = bytes.windows(text.len()).enumerate();
    let places: Vec<_> = windows.filter(|(_, it)| *it == text).collect();
    assert_eq!(places.len(), 1, "the text is there once");
    let at = places[0].0;
    bytes[at..at + text.len()].copy_from_slice(other.as_bytes());
    bytes
}

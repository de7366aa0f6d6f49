//! The kinds of session stores. Each kind has a file below `stores/`: its URL, its keys of `[store]`, how to open, copy and
//! examine it. All other code works with the traits of this file and does not distinguish the kinds.

mod memory;
pub(crate) mod mysql;
mod sqlite;

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::config_reader::fault::{ConfigFault, SettingOrigin};
use crate::config_reader::kinds::{ValueError, text};
use crate::config_reader::{ConfigMode, Section};
use crate::failure::StartError;
use cloakroom_base::clock::Clock;
use cloakroom_session::cookie::IdComparison;
use cloakroom_session::record::Charset;
use cloakroom_session::store::examine::ExamineFinding;
use cloakroom_session::store::scan::StoreScan;
use cloakroom_session::store::{SessionStore, StoreFuture};

pub(crate) use sqlite::DEFAULT_SQLITE_PATH;

/// All kinds of stores, in the order in which messages list them.
static FACTORIES: [&dyn StoreFactory; 3] = [
    &memory::MemoryFactory,
    &sqlite::SqliteFactory,
    &mysql::MysqlFactory,
];

/// The kind of store that is used if no key of `[store]` names one.
static DEFAULT_FACTORY: &dyn StoreFactory = &sqlite::SqliteFactory;

/// A kind of store: its URL and its keys of `[store]`.
pub(crate) trait StoreFactory: Sync {
    /// Returns the schemes of its URLs, in lower case. Messages use the first one.
    fn schemes(&self) -> &'static [&'static str];

    /// Returns the form of its URLs for messages, such as `sqlite:PATH`.
    fn url_form(&self) -> &'static str;

    /// Checks the form of a URL. `rest` is its text after the scheme and the colon. The error must not quote a password.
    fn check_url(&self, rest: &str) -> Result<(), ValueError>;

    /// Checks a valid URL that `cloakroom store` gets on the command line. A URL with a password must be refused, because every
    /// user of the machine can read command lines; `password_flag` is the option that takes a reference instead.
    fn check_argument(&self, _rest: &str, _password_flag: &str) -> Result<(), ValueError> {
        Ok(())
    }

    /// Returns whether the rows outlive the host, so that `cloakroom store` can copy and examine them.
    fn outlives_host(&self) -> bool {
        true
    }

    /// Returns the keys of `[store]` that name a store of this kind without a URL.
    fn address_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads the keys of `[store]` that only this kind has, whatever the choice is: a key that is not requested is unknown.
    /// Returns the store if this kind is chosen and its keys have no fault.
    fn read(
        &self,
        section: &mut Section<'_>,
        choice: StoreChoice<'_>,
    ) -> Option<Arc<dyn ConfiguredStore>>;
}

/// The choice that the configuration makes between the kinds of stores, as one kind sees it.
#[derive(Clone, Copy)]
pub(crate) enum StoreChoice<'a> {
    /// This kind is chosen by a valid URL with this text after the scheme and the colon.
    Url(&'a str),
    /// This kind is chosen without a URL.
    Keys,
    /// Another kind is chosen.
    Other,
    /// No kind is chosen: the URL is at fault, or the guests are only tested.
    Unknown,
}

/// A store that the configuration names. Its methods open it. `Debug` must not print a password.
pub(crate) trait ConfiguredStore: Any + fmt::Debug + Send + Sync {
    /// Returns the end of the sentence "Sessions are kept …". It must not name an account.
    fn place(&self) -> String;

    /// Returns the location of the rows.
    fn location(&self) -> StoreLocation<'_>;

    /// Returns the maximum number of file descriptors that the open store uses.
    fn descriptors(&self) -> u64;

    /// Returns the keys that differ in `new`, all of which only take effect at the start. Two stores without such keys are the
    /// same store.
    fn changed_keys(&self, new: &(dyn ConfiguredStore + 'static)) -> Vec<&'static str>;

    /// Opens the store to serve from it. A store on a server is connected and its table is checked when this returns.
    fn open(&self) -> StoreFuture<'_, Result<Box<dyn OpenStore>, StartError>>;

    /// Opens the source of a copy without creating anything. `flag` is the option that names the store, for messages.
    fn open_source<'a>(
        &'a self,
        flag: &'static str,
        _writers: SourceWriters,
    ) -> StoreFuture<'a, Result<CopySource, StartError>> {
        Box::pin(async move { Err(not_supported(flag)) })
    }

    /// Opens the target of a copy. Creates its file or its table if it is missing.
    fn open_target(&self, flag: &'static str) -> StoreFuture<'_, Result<CopyTarget, StartError>> {
        Box::pin(async move { Err(not_supported(flag)) })
    }

    /// Examines the store, which a host may have open. Changes nothing.
    fn examine<'a>(
        &'a self,
        flag: &'static str,
        _clock: &'a Clock,
    ) -> StoreFuture<'a, Result<Vec<ExamineFinding>, StartError>> {
        Box::pin(async move { Err(not_supported(flag)) })
    }

    /// Panics if the settings do not agree with each other: a fault of the reader.
    #[cfg(any(test, feature = "fuzzing"))]
    fn assert_sound(&self) {}
}

/// The location of the rows of a store. The defaults of other sections depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreLocation<'a> {
    /// In the memory of this process.
    Memory,
    /// In this file, which only one host uses. The host keeps its own secret and its compiled code next to it.
    File(&'a Path),
    /// On a server, which other hosts and Express apps may use. All of them must share their secrets.
    Server,
}

/// An open store that a host serves from.
pub(crate) trait OpenStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the store.
    fn sessions(&self) -> Arc<dyn SessionStore>;

    /// Returns how the store compares session ids.
    fn id_comparison(&self) -> IdComparison {
        IdComparison::Exact
    }

    /// Returns the characters that the rows of the store can hold.
    fn charset(&self) -> Charset {
        Charset::Unicode
    }

    /// Finishes the work in progress and closes the store. Every other reference to the store has been dropped.
    fn close(self: Box<Self>) -> StoreFuture<'static, ()>;
}

/// Whether hosts and Express apps may write to the source of a copy meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceWriters {
    /// They may.
    Allowed,
    /// They must not: this is the final pass. The store keeps them out, or warns if it cannot.
    Excluded,
}

/// The store that a copy reads from.
pub(crate) struct CopySource {
    pub(crate) scan: Arc<dyn StoreScan>,
    /// The open store itself, if reading requires it or keeps hosts out.
    pub(crate) store: Option<Box<dyn OpenStore>>,
}

/// The store that a copy writes to.
pub(crate) struct CopyTarget {
    pub(crate) scan: Arc<dyn StoreScan>,
    pub(crate) store: Box<dyn OpenStore>,
}

impl CopySource {
    /// Closes the store.
    pub(crate) async fn close(self) {
        drop(self.scan);
        if let Some(store) = self.store {
            store.close().await;
        }
    }
}

impl CopyTarget {
    /// Closes the store.
    pub(crate) async fn close(self) {
        drop(self.scan);
        self.store.close().await;
    }
}

impl dyn ConfiguredStore {
    /// Returns the store as a `T`, if it is one.
    pub(crate) fn downcast_ref<T: ConfiguredStore>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl PartialEq for dyn ConfiguredStore {
    fn eq(&self, other: &Self) -> bool {
        self.changed_keys(other).is_empty()
    }
}

/// A store URL whose scheme and form are valid. Has no `Debug`, because it may contain a password.
pub(crate) struct StoreUrl {
    pub(crate) factory: &'static dyn StoreFactory,
    /// The text after the scheme and the colon.
    pub(crate) rest: String,
}

impl StoreUrl {
    /// Parses a store URL. The error names the part that is wrong and never quotes the URL, which may contain a password.
    pub(crate) fn parse(url: &str) -> Result<Self, ValueError> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(ValueError::new("is not a store URL", url_remedy()));
        };
        let scheme = scheme.to_ascii_lowercase();
        let is_its = |factory: &&&dyn StoreFactory| factory.schemes().contains(&scheme.as_str());
        let Some(factory) = FACTORIES.iter().find(is_its).copied() else {
            let schemes = FACTORIES.iter().map(|it| it.schemes()[0].to_owned());
            let problem = format!("its scheme is not {}", one_of(schemes.collect()));
            return Err(ValueError::new(problem, url_remedy()));
        };
        factory.check_url(rest)?;
        Ok(Self {
            factory,
            rest: rest.to_owned(),
        })
    }

    /// Parses a URL that `cloakroom store` gets on the command line, as [`StoreUrl::parse`] does, and checks that it can be copied
    /// and examined and contains no password. `password_flag` is the option that takes a password by reference.
    pub(crate) fn check_argument(url: &str, password_flag: &str) -> Result<(), ValueError> {
        let Self { factory, rest } = Self::parse(url)?;
        if !factory.outlives_host() {
            return Err(ValueError::new(
                "a store in memory ends with its host",
                remedy_of(StoreFactory::outlives_host),
            ));
        }
        factory.check_argument(&rest, password_flag)
    }
}

/// Reads `url` and the keys of every kind of store. Returns `None` if the store is unknown because of a fault.
pub(crate) fn read(section: &mut Section<'_>) -> Option<Arc<dyn ConfiguredStore>> {
    let url = section.get("url", |field| StoreUrl::parse(&text(field)?));
    let is_test = section.reader.mode() == ConfigMode::Test;
    let chosen = match &url {
        _ if is_test => None,
        Some(url) => Some((url.factory, StoreChoice::Url(&url.rest))),
        None if section.is_given("url") => None,
        None => Some((named_by_keys(section), StoreChoice::Keys)),
    };
    let mut store = None;
    for factory in FACTORIES {
        let choice = match chosen {
            Some((chosen, choice)) if chosen.schemes() == factory.schemes() => choice,
            Some(_) => StoreChoice::Other,
            None => StoreChoice::Unknown,
        };
        store = store.or(factory.read(section, choice));
    }
    if is_test {
        return Some(in_memory());
    }
    store
}

/// Returns the store in memory, for a configuration whose store is not opened.
pub(crate) fn in_memory() -> Arc<dyn ConfiguredStore> {
    Arc::new(memory::ConfiguredMemory)
}

/// Returns the kind that a key of `[store]` names, or otherwise the default.
fn named_by_keys(section: &Section<'_>) -> &'static dyn StoreFactory {
    let is_named = |factory: &&&dyn StoreFactory| {
        let mut keys = factory.address_keys().iter();
        keys.any(|key| section.has(key))
    };
    let named = FACTORIES.iter().find(is_named);
    named.copied().unwrap_or(DEFAULT_FACTORY)
}

/// Reports the keys that give the address of a store that `store.url` gives as well. Call this after the keys have been read.
pub(crate) fn refuse_second_address(section: &Section<'_>, keys: &[&str]) {
    if section.reader.mode() == ConfigMode::Test || !section.is_given("url") {
        return;
    }
    let besides = keys.iter().filter(|key| section.is_given(key));
    for key in besides.filter(|key| !is_overruled(section, key)) {
        section.fault(
            key,
            "the address is given twice: here and in store.url",
            "leave out one of the two",
        );
    }
}

/// Warns of keys of `[store]` that have no effect, because another kind of store than theirs is chosen.
pub(crate) fn warn_of_idle_keys(section: &Section<'_>, keys: &[&str], kind: &str) {
    let idle = keys.iter().filter(|key| section.is_given(key));
    for key in idle.filter(|key| !is_overruled(section, key)) {
        section.warn(key, &format!("has no effect: the store is not {kind}"));
    }
}

/// Returns whether a key of the file is overridden by a URL from the environment or the command line, which names another
/// server.
pub(crate) fn is_overruled(section: &Section<'_>, key: &str) -> bool {
    let is_in_file = |key| matches!(section.origin_of(key), SettingOrigin::File { .. });
    section.is_given("url") && !is_in_file("url") && is_in_file(key)
}

/// Returns the remedy for a wrong URL: the forms of all kinds.
pub(crate) fn url_remedy() -> String {
    remedy_of(|_| true)
}

/// Returns the remedy that lists the URL forms of these kinds.
fn remedy_of(is_listed: impl Fn(&'static dyn StoreFactory) -> bool) -> String {
    let forms = forms(is_listed).map(|form| format!("{form:?}"));
    format!("write {}", one_of(forms.collect()))
}

/// Returns the URL forms of all kinds for help texts, as in "a, b or c".
pub fn store_urls() -> String {
    one_of(forms(|_| true).map(str::to_owned).collect())
}

/// Returns the URL forms, as [`store_urls`] does, of the kinds that can be copied and examined.
pub fn lasting_store_urls() -> String {
    let forms = forms(StoreFactory::outlives_host);
    one_of(forms.map(str::to_owned).collect())
}

fn forms(
    is_listed: impl Fn(&'static dyn StoreFactory) -> bool,
) -> impl Iterator<Item = &'static str> {
    let listed = FACTORIES.iter().filter(move |it| is_listed(**it));
    listed.map(|it| it.url_form())
}

/// Joins items as in "a, b or c".
fn one_of(items: Vec<String>) -> String {
    match items.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => items.concat(),
    }
}

fn not_supported(flag: &str) -> StartError {
    let problem = "stores of this kind can be neither copied nor examined";
    ConfigFault::new(flag, problem, "name a store of another kind").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_names_a_kind_in_any_case() {
        for (url, form) in [
            ("memory:", "memory:"),
            ("sqlite3:a.db", "sqlite:PATH"),
            ("MariaDB://app@db/app", "mysql://USER@HOST:PORT/DATABASE"),
        ] {
            let parsed = StoreUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error:?}"));
            assert_eq!(parsed.factory.url_form(), form);
        }
    }

    #[test]
    fn an_invalid_store_url_is_reported_without_its_password() {
        let cases = [
            ("sessions.db", "is not a store URL"),
            ("redis://hunter2@h", "its scheme is not memory, "),
            ("memory:x", "a memory store has no name"),
            ("sqlite:", "names no file"),
            ("mysql:app@db/app", "two slashes"),
        ];
        for (url, expected) in cases {
            let Err(error) = StoreUrl::parse(url) else {
                panic!("{url} was accepted")
            };
            assert!(error.problem.contains(expected), "{url}: {}", error.problem);
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn the_kinds_that_outlive_their_host_can_be_copied() {
        let lasting = "sqlite:PATH or mysql://USER@HOST:PORT/DATABASE";
        assert_eq!(lasting_store_urls(), lasting);
        let items = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(one_of(items), "a, b or c");
        assert!(url_remedy().starts_with("write \"memory:\", \"sqlite:PATH\""));
    }
}

//! Every table and every key of the file, described once: of this the schema for editors and the reference are made.
//!
//! [`file`](super::file) reads the file without looking in here. That the two say the same is what the tests of the
//! reference hold: every key that is read is described, every example is accepted, every default is what is read without it.

mod process;
mod provider;
mod request;
mod route;
mod schema;
mod values;

pub use schema::schema;

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// What it is called in the schema: unique.
    pub name: &'static str,
    /// How it is written: the head of the table, or an inline table.
    pub written: &'static str,
    /// What it is about, in Markdown.
    pub about: &'static str,
    /// Its keys, in the order in which a reader wants them.
    pub keys: &'static [Key],
    /// Of these keys, how many there must be.
    pub of: Of,
}

/// How many of some keys there must be.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// Nothing is said about it.
    Any,
    /// Exactly one of these.
    One(&'static [&'static str]),
    /// One of these or more.
    Some(&'static [&'static str]),
}

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it can be.
    pub kind: Kind,
    /// What it is where it is left out.
    pub absent: Absent,
    /// The key of the same table, and its values, with which this one has a meaning.
    pub only_with: Option<(&'static str, &'static [&'static str])>,
    /// What it means, in Markdown.
    pub about: &'static str,
    /// A value, as TOML writes it.
    pub example: &'static str,
}

/// What is so where a key is left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Absent {
    /// It cannot be left out.
    Never,
    /// The same as with this value, in what TOML and JSON have in common.
    Same(&'static str),
    /// What these words say.
    Words(&'static str),
}

/// What a value can be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`
    Boolean,
    /// This of the two: the other says nothing.
    Just(bool),
    /// Any number.
    Number,
    /// Any integer.
    Whole,
    /// An integer from the first to the second.
    Integer(u64, u64),
    /// A string that is one of these.
    Choice(&'static [&'static str]),
    /// A string: what it is called, and a regular expression that it matches.
    Text(&'static str, &'static str),
    /// A table whose keys are known.
    Table(&'static Table),
    /// A table whose keys are names: what the names are called, and what their values can be.
    Names(&'static str, &'static Self),
    /// Any number of these.
    List(&'static Self),
    /// One of these kinds.
    Either(&'static [Self]),
    /// Whatever JSON has, written as TOML; its strings are templates.
    Json,
}

impl Key {
    const fn new(
        name: &'static str,
        kind: Kind,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            absent: Absent::Never,
            only_with: None,
            about,
            example,
        }
    }

    /// It may be left out, which is the same as this value.
    const fn or(mut self, value: &'static str) -> Self {
        self.absent = Absent::Same(value);
        self
    }

    /// It may be left out, and then what these words say is so.
    const fn or_else(mut self, words: &'static str) -> Self {
        self.absent = Absent::Words(words);
        self
    }

    const fn only_with(mut self, key: &'static str, values: &'static [&'static str]) -> Self {
        self.only_with = Some((key, values));
        self
    }
}

/// The file itself.
pub use process::FILE;

/// The types of a provider, by what `type` says.
pub const PROVIDERS: [(&str, &Table); 5] = [
    ("oauth2", &provider::OAUTH2),
    ("http", &provider::HTTP),
    ("graphql", &provider::GRAPHQL),
    ("static", &provider::STATIC),
    ("jwt", &provider::JWT),
];

/// Every table, in the order of the reference.
pub static TABLES: [&Table; 26] = [
    &FILE,
    &process::LISTEN,
    &process::ADMIN,
    &process::LISTEN_TLS,
    &process::LIMITS,
    &process::LOG,
    &process::TRACE,
    &provider::OAUTH2,
    &provider::HTTP,
    &provider::GRAPHQL,
    &provider::STATIC,
    &provider::JWT,
    &request::REFRESH,
    &request::RULE,
    &route::ROUTE,
    &route::TIMEOUTS,
    &route::UNAUTHORIZED,
    &values::SECRET,
    &values::ASSERTION,
    &values::SHARED_ASSERTION,
    &values::TLS,
    &values::EGRESS_PROXY,
    &values::EXPIRY,
    &values::TOKEN_PLACE,
    &values::EXPECTED,
    &values::SINGLE_USE,
];

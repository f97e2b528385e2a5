//! The flags that every engine is given, and what an engine must do.

/// The group of whoever is asked for.
pub const GROUP: &str = "group-42";
/// The groups that a targeting rule admits.
pub const GROUPS: usize = 100;
/// Variants of a flag that has some, each as likely as the others.
pub const VARIANTS: usize = 5;

/// What a flag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On for everybody.
    Plain,
    /// On for half of the users.
    Rollout,
    /// On for half of the users in one of 100 groups, on Android or iOS, from version 3.2.0 on.
    Targeting,
    /// One of five variants.
    Variants,
}

/// A flag's name, and what it is.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Its name.
    pub key: String,
    /// What it is.
    pub kind: Kind,
}

/// An engine that holds the flags, in its own language.
pub trait Engine {
    /// Makes the context of the user for whom the timed calls ask: in `GROUP`, on iOS, version 3.4.1, plan `pro`.
    fn settle(&mut self, user: &str);

    /// Asks for a flag as a boolean, over and over.
    fn ask(&self, key: &str, calls: u64);

    /// Asks for a flag with its variant, over and over.
    fn ask_variant(&self, key: &str, calls: u64);

    /// Asks for every flag as a boolean, over and over.
    fn ask_all(&self, calls: u64);

    /// What a flag is for a user in a group: `on`, `off`, or a variant's name.
    fn decide(&self, key: &str, user: &str, group: &str) -> String;
}

/// A thousand flags, a quarter of each kind; the four under test are called like their kind.
pub fn flags() -> Vec<Flag> {
    let kinds = [Kind::Plain, Kind::Rollout, Kind::Targeting, Kind::Variants];
    let named = ["plain", "rollout", "targeting", "variants"];
    let many = (0..996).map(|n| Flag { key: format!("flag-{n:04}"), kind: kinds[n % 4] });
    let tested = named.iter().zip(kinds).map(|(key, kind)| Flag { key: (*key).to_owned(), kind });
    many.chain(tested).collect()
}

/// The groups of a targeting rule.
pub fn groups() -> Vec<String> {
    (0..GROUPS).map(|n| format!("group-{n}")).collect()
}

/// The names of variants.
pub fn variants() -> Vec<String> {
    (0..VARIANTS).map(|n| format!("variant-{n}")).collect()
}

/// A user's id.
pub fn user(n: usize) -> String {
    format!("user-{n:07}")
}

/// `on` or `off`.
pub fn word(is_on: bool) -> String {
    if is_on { "on" } else { "off" }.to_owned()
}

//! What can be wrong between us and the API server.

use std::error::Error;
use std::fmt;

use kube::core::Status;

use super::pause::After;

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of failure.
    pub kind: TroubleKind,
    /// In words.
    pub words: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Kinds of failures. Their labels are values of the metric label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TroubleKind {
    /// No connection, or one that ended before its time.
    Unreachable,
    /// No answer in time.
    Silent,
    /// 401: the token is not accepted.
    Unauthorized,
    /// 403: a right is missing.
    Forbidden,
    /// 410: what we know is too old to go on from; a new list follows.
    Expired,
    /// 429, and other answers that say "later".
    Busy,
    /// 404.
    Missing,
    /// 4xx: this server does not do what was asked for.
    Refused,
    /// 5xx.
    Server,
    /// An answer that makes no sense.
    Garbled,
}

impl TroubleKind {
    /// Every kind, in label order.
    pub const ALL: [Self; 10] = [
        Self::Busy,
        Self::Expired,
        Self::Forbidden,
        Self::Garbled,
        Self::Missing,
        Self::Refused,
        Self::Server,
        Self::Silent,
        Self::Unauthorized,
        Self::Unreachable,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::Garbled => "garbled",
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Silent => "silent",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
        }
    }

    /// What it means for how soon to ask again.
    pub const fn after(self) -> After {
        match self {
            Self::Unauthorized
            | Self::Forbidden
            | Self::Busy
            | Self::Missing
            | Self::Refused
            | Self::Server => After::Refusal,
            Self::Expired => After::Expiry,
            Self::Unreachable | Self::Silent | Self::Garbled => After::Silence,
        }
    }

    /// Whether a new client might do better.
    pub(in crate::discovery) const fn wants_new_client(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Unreachable | Self::Silent)
    }

    /// Whether a server may say so that cannot stream lists, but can give them: the feature is off (422), or its etcd is
    /// too old for it (500).
    pub(super) const fn refuses_streams(self) -> bool {
        matches!(self, Self::Refused | Self::Server)
    }

    fn of_code(code: u16) -> Self {
        match code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::Missing,
            410 => Self::Expired,
            408 | 409 | 425 | 429 | 503 => Self::Busy,
            400..=499 => Self::Refused,
            500..=599 => Self::Server,
            _ => Self::Garbled,
        }
    }
}

impl Trouble {
    pub(in crate::discovery) fn new(kind: TroubleKind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into() }
    }

    /// What the server said.
    pub(super) fn of_status(status: &Status) -> Self {
        let kind = TroubleKind::of_code(status.code);
        let reason = if status.message.is_empty() { &status.reason } else { &status.message };
        let words = match kind {
            TroubleKind::Forbidden => format!("a right is missing: {reason}"),
            TroubleKind::Unauthorized => format!("the token is not accepted: {reason}"),
            TroubleKind::Expired => format!("too far behind, all is listed again: {reason}"),
            _ => format!("the API server answers {}: {reason}", status.code),
        };
        Self { kind, words: shortened(&words) }
    }

    /// What kube's client makes of it.
    pub(super) fn of_error(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::SerdeError(error) => {
                Self::new(TroubleKind::Garbled, format!("an answer makes no sense: {error}"))
            }
            other => Self::new(TroubleKind::Unreachable, shortened(&chain(other))),
        }
    }
}

/// An error and all that is behind it, without repeating what an outer one has said of an inner one.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut inner = error.source();
    // Sixteen are more than any library nests; a source that leads back to itself must not hold us.
    for _ in 0..16 {
        let Some(error) = inner else { break };
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        inner = error.source();
    }
    words
}

/// Log lines stay readable, whatever a server writes.
fn shortened(words: &str) -> String {
    const MOST: usize = 400;
    match words.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or(words)),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_a_server_has_its_kind() {
        let kind = |code: u16| Trouble::of_status(&Status::failure("words", "Reason").with_code(code)).kind;
        for (codes, expected) in [
            (&[401][..], TroubleKind::Unauthorized),
            (&[403], TroubleKind::Forbidden),
            (&[410], TroubleKind::Expired),
            (&[408, 429, 503], TroubleKind::Busy),
            (&[404], TroubleKind::Missing),
            (&[400, 415, 422], TroubleKind::Refused),
            (&[500, 504], TroubleKind::Server),
            (&[0, 200, 600], TroubleKind::Garbled),
        ] {
            assert!(codes.iter().all(|code| kind(*code) == expected), "{expected:?}");
        }
    }

    #[test]
    fn a_missing_right_is_told_in_the_servers_own_words() {
        let words = "pods is forbidden: User \"system:serviceaccount:x:y\" cannot list resource \"pods\"";
        let trouble = Trouble::of_status(&Status::failure(words, "Forbidden").with_code(403));
        assert_eq!(trouble.words, format!("a right is missing: {words}"));
    }

    #[test]
    fn a_long_answer_is_shortened_between_characters() {
        let trouble = Trouble::of_status(&Status::failure(&"ä".repeat(100_000), "").with_code(500));
        assert!(trouble.words.len() < 1_000 && trouble.words.ends_with('…'));
    }

    #[test]
    fn labels_are_in_order_and_different() {
        let labels = TroubleKind::ALL.map(TroubleKind::label);
        assert!(labels.is_sorted() && labels.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

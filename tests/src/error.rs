use std::io;

/// Why the lab could not do what was asked. A test shows it and fails.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel refused.
    #[error(
        "{doing}: {source}; the lab needs root (uid {}, with SYS_ADMIN, NET_ADMIN and NET_RAW)",
        nix::unistd::geteuid()
    )]
    Kernel {
        /// What was tried, in words.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("`{command}` ended with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status, in words.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// A program could not be started.
    #[error("`{command}` does not start: {source}; tests/packages.txt lists the programs that the lab uses")]
    Start {
        /// The command line.
        command: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What was waited for did not happen.
    #[error("waited in vain for {waiting_for}; seen: {seen}")]
    Deadline {
        /// What was waited for.
        waiting_for: String,
        /// What there was instead.
        seen: String,
    },
    /// The capture's ring was full: the ground truth has a hole.
    #[error("the capture on {interface} dropped {dropped} packets of {seen}")]
    CaptureDrops {
        /// Where it captured.
        interface: String,
        /// Packets lost for lack of room.
        dropped: u64,
        /// Packets that passed.
        seen: u64,
    },
    /// A text from a program did not read as expected.
    #[error("{what} is malformed: {text}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// The offending text.
        text: String,
    },
    /// A file that must be there is not.
    #[error("{what} is missing: {hint}")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where, and how to get it.
        hint: String,
    },
}

/// Puts words to an error of the kernel.
pub(crate) trait Doing<T> {
    /// Says what was being done.
    fn doing(self, doing: impl Into<String>) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl Into<String>) -> Result<T, LabError> {
        self.map_err(|error| LabError::Kernel { doing: doing.into(), source: error.into() })
    }
}

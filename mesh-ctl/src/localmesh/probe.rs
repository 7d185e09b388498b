//! Whether the kernel lets this user make namespaces, and what to do when it does not.

use std::fmt;

/// The step of the probe that failed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making all namespaces in one `clone`.
    Clone,
    /// Writing the user and group maps.
    UserMap,
    /// Setting the loopback device up.
    Loopback,
    /// Making an nf_tables table with a nat chain and a redirect.
    Nftables,
    /// Making a veth pair and a bridge.
    Links,
    /// Making mounts private and mounting memory.
    Mount,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clone => "making namespaces",
            Self::UserMap => "mapping the user",
            Self::Loopback => "setting up the loopback device",
            Self::Nftables => "making nf_tables rules",
            Self::Links => "making network devices",
            Self::Mount => "mounting",
        })
    }
}

/// Why namespaces cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The step that failed first.
    pub step: Step,
    /// The kernel's error number.
    pub errno: i32,
    /// What it means and what to do, one line for the user.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// Tries everything that namespace mode needs in a child process, which leaves nothing behind.
///
/// Call it before any other thread exists.
///
/// # Errors
/// The first step that the kernel refused.
pub fn probe() -> Result<(), Refused> {
    Err(Refused { step: Step::Clone, errno: 38, message: "namespaces are not built in yet".into() })
}

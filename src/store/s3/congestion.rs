//! Chooses how TCP answers to loss on the way to a bucket, connection by connection.
//!
//! Only the sender's choice counts, and on a PUT that is us. Cubic takes each lost packet for congestion: at 1 % loss and 200 ms
//! one connection carries 0.7 Mbit/s of any line. BBR measures the line instead and carries 50. Linux lets every user
//! choose among what `net.ipv4.tcp_allowed_congestion_control` has, and who may administer the network among all there are.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use rustix::net::{self, AddressFamily, SocketType};

use crate::store::{StoreError, StoreErrorKind};

const PREFERRED: &str = "bbr";

/// Every kernel has it, for every user.
const ALWAYS_ALLOWED: &str = "reno";

/// The congestion control of connections to a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Congestion {
    /// BBR where this user may choose it, else the system's.
    #[default]
    Auto,
    /// As the system has it for all connections.
    System,
    /// By the kernel's name for it, or not at all.
    Named(String),
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::System => "system",
            Self::Named(name) => name,
        })
    }
}

impl FromStr for Congestion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match text {
            "auto" => Ok(Self::Auto),
            "system" => Ok(Self::System),
            // The kernel's limit, TCP_CA_NAME_MAX with its end.
            _ if (1..16).contains(&text.len()) && text.chars().all(is_name) => {
                Ok(Self::Named(text.to_owned()))
            }
            _ => Err(format!(
                "'{}' is no congestion control: auto, system, or a name of the kernel's such as bbr or cubic",
                text.escape_debug()
            )),
        }
    }
}

/// A choice that was tried out and can be had; None leaves the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen(Option<String>);

impl Congestion {
    /// Tries the choice out on a socket that is used for nothing else.
    pub(super) fn choose(&self) -> Result<Chosen, StoreError> {
        let name = match self {
            Self::System => return Ok(Chosen(None)),
            Self::Auto => PREFERRED,
            Self::Named(name) => name,
        };
        match try_out(name) {
            Ok(()) => Ok(Chosen(Some(name.to_owned()))),
            Err(error) if *self == Self::Auto => {
                tracing::debug!("the system's congestion control stays: {name}: {error}");
                Ok(Chosen(None))
            }
            Err(error) => Err(refused(name, &error)),
        }
    }
}

impl Chosen {
    /// The kernel's name for it; None for the system's.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether loss does not slow a connection down.
    pub(super) fn rides_out_loss(&self) -> bool {
        self.0.as_ref().is_some_and(|name| name.starts_with("bbr"))
    }

    /// Has a connection keep to the choice. To be called once it is connected: connecting sets what the route says.
    pub(super) fn apply(&self, connection: impl AsFd) -> io::Result<()> {
        match &self.0 {
            Some(name) => set(connection, name),
            None => Ok(()),
        }
    }
}

impl Chosen {
    /// Has a connection's BBR forget what it measured, and measure again from its first phase on. Other choices hold no such
    /// memory. The kernel begins anew only what is another than before, so the one that it always allows comes between.
    pub(super) fn begin_anew(&self, connection: impl AsFd) -> io::Result<()> {
        match &self.0 {
            Some(name) if self.rides_out_loss() => {
                set(&connection, ALWAYS_ALLOWED)?;
                set(&connection, name)
            }
            _ => Ok(()),
        }
    }
}

fn try_out(name: &str) -> io::Result<()> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set(socket, name)
}

#[cfg(target_os = "linux")]
fn set(socket: impl AsFd, name: &str) -> io::Result<()> {
    Ok(net::sockopt::set_tcp_congestion(socket, name)?)
}

#[cfg(not(target_os = "linux"))]
fn set(_: impl AsFd, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Why a name can't be had, and what to do about it.
fn refused(name: &str, error: &io::Error) -> StoreError {
    let may_not = error.kind() == io::ErrorKind::PermissionDenied;
    let (setting, doing) = if may_not {
        (
            "tcp_allowed_congestion_control",
            "add it there (sysctl -w), run as root, or leave --congestion out",
        )
    } else {
        (
            "tcp_available_congestion_control",
            "load its module (modprobe), or leave --congestion out",
        )
    };
    let why = if may_not {
        "this user may not choose it"
    } else {
        "the kernel does not have it"
    };
    let has = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{setting}"));
    let has = has.map_or_else(|_| "unknown".to_owned(), |names| names.trim().to_owned());
    let what = format!(
        "can't use the congestion control {name}: {why} (net.ipv4.{setting}: {has}); {doing}"
    );
    StoreError::new(StoreErrorKind::Permanent, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_kernel_does_not_have_is_refused_with_those_it_has() {
        let nonesuch = Congestion::Named("nonesuch".to_owned());
        let error = nonesuch.choose().unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Permanent);
        let what = error.to_string();
        assert!(what.contains("control nonesuch"), "{what}");
        assert!(
            what.contains("net.ipv4.tcp_available_congestion_control: "),
            "{what}"
        );
        assert!(what.contains("reno"), "{what}");
    }

    #[test]
    fn who_may_not_choose_is_told_what_may_be_chosen() {
        let what = refused("bbr", &io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(what.contains("this user may not choose it"), "{what}");
        assert!(
            what.contains("net.ipv4.tcp_allowed_congestion_control: "),
            "{what}"
        );
    }

    #[test]
    fn auto_takes_what_it_can_get() {
        let chosen = Congestion::Auto.choose().unwrap();
        let can_be_had = Congestion::Named("bbr".to_owned()).choose().is_ok();
        assert_eq!(chosen.rides_out_loss(), can_be_had);
        assert_eq!(Congestion::System.choose().unwrap(), Chosen(None));
    }

    #[test]
    fn only_names_are_taken() {
        for text in ["auto", "system", "bbr", "cubic", "bbr2", "dctcp-reno"] {
            assert_eq!(text.parse::<Congestion>().unwrap().to_string(), text);
        }
        for text in ["", "a b", "../bbr", "a-name-that-is-too-long"] {
            assert!(text.parse::<Congestion>().is_err(), "{text}");
        }
    }
}

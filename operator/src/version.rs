//! The operator's own version, and the oldest Kubernetes that it works with.

use std::fmt;

use k8s_openapi::apimachinery::pkg::version::Info;

/// The operator's own version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The oldest Kubernetes that the operator starts on. Older ones may have all that it uses, but nobody tries them.
pub(crate) const MINIMUM_KUBERNETES: Minor = Minor { major: 1, minor: 33 };

/// A version of Kubernetes without its patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Minor {
    major: u32,
    minor: u32,
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why the operator does not work with an API server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VersionError {
    /// It is too old.
    #[error(
        "the API server is Kubernetes {found}, the operator needs {MINIMUM_KUBERNETES} or newer; upgrade the cluster"
    )]
    TooOld {
        /// Its version.
        found: String,
    },
    /// It does not say what it is.
    #[error("the API server's version {found:?} cannot be read; expected one like v{MINIMUM_KUBERNETES}.0")]
    Unreadable {
        /// What it says.
        found: String,
    },
}

/// Whether the operator works with an API server that says `info` of itself.
pub(crate) fn check(info: &Info) -> Result<(), VersionError> {
    // Some distributions write the minor as "33+".
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().ok();
    let (Some(major), Some(minor)) = (number(&info.major), number(&info.minor)) else {
        return Err(VersionError::Unreadable {
            found: format!("{}.{}", info.major, info.minor),
        });
    };
    if (Minor { major, minor }) < MINIMUM_KUBERNETES {
        return Err(VersionError::TooOld {
            found: info.git_version.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(major: &str, minor: &str) -> Info {
        let git_version = format!("v{major}.{minor}.5-vendor.1");
        Info {
            major: major.to_owned(),
            minor: minor.to_owned(),
            git_version,
            ..Info::default()
        }
    }

    #[test]
    fn the_minimum_and_newer_are_enough() {
        for (major, minor) in [("1", "33"), ("1", "33+"), ("1", "36"), ("1", "100"), ("2", "0")] {
            assert_eq!(check(&info(major, minor)), Ok(()), "{major}.{minor}");
        }
    }

    #[test]
    fn older_is_refused_with_both_versions_named() {
        for (major, minor) in [("1", "32"), ("1", "9"), ("0", "99")] {
            let error = check(&info(major, minor)).expect_err("too old").to_string();
            assert!(
                error.contains(&format!("v{major}.{minor}.5-vendor.1")) && error.contains("1.33"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for (major, minor) in [("", ""), ("1", ""), ("one", "33"), ("1", "+"), ("1", "-33")] {
            assert!(
                matches!(check(&info(major, minor)), Err(VersionError::Unreadable { .. })),
                "{major}.{minor}"
            );
        }
    }
}

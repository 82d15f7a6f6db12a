//! Certificates from files that somebody else keeps, such as a Secret that cert-manager writes and a volume shows.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::tls::{Pair, Tls, TlsError};

/// How often the files are looked at. A volume follows its Secret within about a minute.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// One cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// They are no certificate with its key.
    #[error("{}: tls.crt and tls.key cannot be used", folder.display())]
    Pair {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: TlsError,
    },
}

/// Reads `tls.crt` and `tls.key` of a folder.
pub async fn read(folder: &Path) -> Result<Pair, FileError> {
    let text = async |name: &str| {
        let path = folder.join(name);
        let read = tokio::fs::read_to_string(&path).await;
        read.map_err(|source| FileError::Read { path, source })
    };
    let pair = Pair::new(text("tls.crt").await?, text("tls.key").await?);
    pair.map_err(|source| FileError::Pair {
        folder: folder.to_owned(),
        source,
    })
}

/// Shows what is in the folder, also when it changes, until `until` completes. While the files cannot be used, one may
/// have been written before the other: the last good pair goes on being shown, and `standing` tells.
pub async fn follow(
    folder: &Path,
    every: Duration,
    tls: &Tls,
    standing: &tokio::sync::watch::Sender<super::Standing>,
    until: impl Future<Output = ()>,
) {
    let look = async {
        loop {
            match read(folder).await {
                Ok(pair) => {
                    if tls.shown().as_ref() != Some(&pair) {
                        tls.show(&pair);
                        tracing::info!(ends = %pair.ends(), "another certificate from files");
                    }
                    super::stand(standing, super::Standing::of_files(&pair));
                }
                Err(error) => {
                    let trouble = super::in_words(&error);
                    tracing::warn!(error = trouble, "certificates from files");
                    standing.send_if_modified(|standing| standing.trouble.replace(trouble.clone()) != Some(trouble));
                }
            }
            sleep(every).await;
        }
    };
    tokio::select! {
        () = look => {}
        () = until => {}
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tempfile::TempDir;
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::super::issue::carry_out;
    use super::super::rotation::Step;
    use super::super::{Standing, Times};
    use super::*;

    /// Generous: the machine may be busy.
    const PATIENCE: Duration = Duration::from_mins(1);

    fn pair() -> Pair {
        let state = carry_out(Step::Begin, None, "here.svc", Timestamp::now(), &Times::default());
        state.expect("it is made").leaf
    }

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), text).expect("it is written");
    }

    async fn until(standing: &mut watch::Receiver<Standing>, holds: impl Fn(&Standing) -> bool) {
        let told = timeout(PATIENCE, standing.wait_for(holds)).await;
        told.expect("in time").expect("they are followed");
    }

    #[tokio::test]
    async fn files_are_followed_and_half_a_change_is_none() {
        let folder = TempDir::new().expect("a folder");
        let (tls, one, two) = (Tls::new().expect("TLS"), pair(), pair());
        let (tell, mut standing) = watch::channel(Standing::default());
        let follows = follow(
            folder.path(),
            Duration::from_millis(1),
            &tls,
            &tell,
            std::future::pending(),
        );
        let changes = async {
            until(&mut standing, |standing| standing.trouble.is_some()).await;
            assert_eq!(tls.shown(), None, "there are no files yet");
            write(folder.path(), "tls.crt", one.certificate());
            write(folder.path(), "tls.key", one.key());
            until(&mut standing, |standing| {
                standing.trouble.is_none() && standing.accepted
            })
            .await;
            assert_eq!(tls.shown().as_ref(), Some(&one));

            write(folder.path(), "tls.key", two.key());
            until(&mut standing, |standing| standing.trouble.is_some()).await;
            assert_eq!(tls.shown().as_ref(), Some(&one), "the last good one");
            write(folder.path(), "tls.crt", two.certificate());
            until(&mut standing, |standing| standing.trouble.is_none()).await;
            assert_eq!(tls.shown().as_ref(), Some(&two));
        };
        tokio::select! {
            () = follows => unreachable!("it follows for ever"),
            () = changes => {}
        }
    }
}

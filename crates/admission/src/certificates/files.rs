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

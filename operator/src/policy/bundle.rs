//! Bundles, built, signed, verified and shown.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use policy::bundle::{
    self, Activated, Bundle, Claims, OpenError, PublicKey, SigningKey, Tests, Trust, admit, signature,
};
use serde_json::{Value, json};

use super::{Refused, gate, print, read};
use crate::command::{BuildArguments, InspectArguments, PolicyOutput, SignArguments, VerifyArguments};
use crate::{Done, REFUSED, plan};

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written", path.display())]
struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// A bundle that no cluster would go back to.
#[derive(Debug, thiserror::Error)]
#[error(
    "--rollback-from {taken_back}: is not above the sequence {sequence}, so there is nothing to take back; name the highest sequence that was in force"
)]
struct NothingTakenBack {
    sequence: u64,
    taken_back: u64,
}

fn write(path: &Path, archive: &[u8]) -> Result<(), WriteError> {
    fs::write(path, archive).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}

/// `policy build`.
pub(super) fn build(arguments: &BuildArguments) -> Done {
    let opened = read::bundle(&arguments.from)?;
    let mut manifest = opened.manifest().clone();
    let BuildArguments {
        revision,
        sequence,
        expires,
        rollback_from,
        ..
    } = arguments;
    manifest.revision = revision.clone().unwrap_or(manifest.revision);
    manifest.metadata.sequence = sequence.or(manifest.metadata.sequence);
    manifest.metadata.expires = expires.or(manifest.metadata.expires);
    manifest.metadata.rollback_from = rollback_from.or(manifest.metadata.rollback_from);
    let mut files = opened.files().clone();
    if manifest != *opened.manifest() {
        files.set_manifest(&manifest)?;
    }
    if let (Some(sequence), Some(taken_back)) = (manifest.metadata.sequence, manifest.metadata.rollback_from)
        && taken_back <= sequence
    {
        return Err(NothingTakenBack { sequence, taken_back }.into());
    }
    let built = Bundle::open_unverified(opened.name(), files)?;
    let mut together = vec![built.clone()];
    together.extend(read::bundles(&arguments.with)?);
    let findings = gate(&together)?;
    if !findings.is_empty() {
        return Err(Refused(findings).into());
    }
    let tests = if arguments.tests {
        Tests::Include
    } else {
        Tests::LeaveOut
    };
    write(&arguments.to, &bundle::build(&built, tests))?;
    let told = read::bundle(&arguments.to)?;
    print(&format!(
        "{}\t{}\t{}\n",
        arguments.to.display(),
        told.manifest().revision,
        told.digest()
    ))
}

/// `policy sign`.
pub(super) fn sign(arguments: &SignArguments) -> Done {
    let opened = read::bundle(&arguments.from)?;
    let key = SigningKey::from_pem(&plan::read(&arguments.key)?, arguments.algorithm)?;
    let claims = Claims {
        key_id: arguments.key_id.clone(),
        scope: arguments.scope.clone(),
    };
    let files = signature::sign(opened.files(), &key, &claims, Timestamp::now())?;
    let signed = Bundle::open_unverified(opened.name(), files)?;
    write(&arguments.to, &bundle::build(&signed, Tests::Include))?;
    let (to, revision) = (arguments.to.display(), &signed.manifest().revision);
    print(&format!(
        "{to}\t{revision}\t{}\tsigned by {} with {}\n",
        signed.digest(),
        claims.key_id,
        key.algorithm()
    ))
}

/// `policy verify`.
pub(super) fn verify(arguments: &VerifyArguments) -> Done {
    let key = PublicKey::from_pem(&plan::read(&arguments.key)?)?;
    let trust = Trust {
        keys: BTreeMap::from([(arguments.key_id.clone(), key)]),
        scope: arguments.scope.clone(),
        require_signature: true,
    };
    let name = arguments.bundle.display().to_string();
    let files = read::files(&arguments.bundle)?;
    let now = Timestamp::now();
    // What is unsigned has no sequence either; without this, that would be all that is said of it.
    if let Err(error) = signature::verify(&files, &trust, now) {
        return Ok(refused(&OpenError::Signature {
            bundle: name,
            source: error,
        }));
    }
    let opened = match Bundle::open(&name, files, &trust, now) {
        Ok(opened) => opened,
        Err(error) => return Ok(refused(&error)),
    };
    let current = arguments.above.map(|sequence| Activated {
        revision: String::new(),
        digest: String::new(),
        sequence: Some(sequence),
        highest: Some(sequence),
    });
    if let Err(refusal) = admit(current.as_ref(), &opened, &trust, now) {
        return Ok(refused(&refusal));
    }
    let by = opened.signed_by().unwrap_or_default();
    print(&format!(
        "{name}\t{}\t{}\tsigned by {by}\n",
        opened.manifest().revision,
        opened.digest()
    ))
}

fn refused(error: &dyn Error) -> ExitCode {
    eprintln!("refused: {}", telemetry::chain(error));
    ExitCode::from(REFUSED)
}

/// `policy inspect`.
pub(super) fn inspect(arguments: &InspectArguments) -> Done {
    let opened = read::bundle(&arguments.bundle)?;
    let manifest = opened.manifest();
    let files: Vec<Value> = opened
        .files()
        .iter()
        .map(|(name, text)| json!({"name": name, "bytes": text.len()}))
        .collect();
    let shown = json!({
        "name": opened.name(),
        "revision": manifest.revision,
        "roots": manifest.roots,
        "digest": opened.digest(),
        "sequence": manifest.metadata.sequence,
        "expires": manifest.metadata.expires.map(|expires| expires.to_string()),
        "rollbackFrom": manifest.metadata.rollback_from,
        "hasSignature": opened.files().get(".signatures.json").is_some(),
        "files": files,
    });
    print(&match arguments.output {
        PolicyOutput::Json => format!("{}\n", serde_json::to_string_pretty(&shown)?),
        PolicyOutput::Text => for_people(&shown),
    })
}

fn for_people(shown: &Value) -> String {
    let mut text = String::new();
    for (key, value) in shown.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(items) if key == "files" => {
                for file in items {
                    let _ = writeln!(
                        text,
                        "  {}\t{}",
                        file["bytes"],
                        file["name"].as_str().unwrap_or_default()
                    );
                }
            }
            Value::String(plain) => drop(writeln!(text, "{key}\t{plain}")),
            other => drop(writeln!(text, "{key}\t{other}")),
        }
    }
    text
}

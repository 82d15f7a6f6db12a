//! `database-operator policy build`, `sign`, `verify` and `inspect`: bundles.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use policy::bundle::Algorithm;

use super::PolicyOutput;

pub(super) const BUILD_EXAMPLES: &str = "\
The bundle is a tar.gz in OPA's format: OPA's tools read it, and build such ones. What is in it, and
nothing else, decides how it looks: the same folder gives the same bytes. What a cluster would refuse
to load, or what does not pass its own tests, is not built.

Examples:
  database-operator policy build policies --to policies.tar.gz --revision v42 --sequence 42
      A bundle without tests; the sequence must grow from one to the next
  database-operator policy build policies --to policies.tar.gz --tests --expires 2027-01-01T00:00:00Z
      With tests, and not to be activated after a time

Exit codes: 0 done, 2 error.";

pub(super) const SIGN_EXAMPLES: &str = "\
The signature is OPA's: a list of all files with their hashes, signed. Keys are PEM files as openssl
makes them; only asymmetric algorithms: ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512, EdDSA.

Examples:
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub.pem
  database-operator policy sign policies.tar.gz --key key.pem --key-id release-1 --scope production --to signed.tar.gz
      Signs a bundle for one purpose

Exit codes: 0 done, 2 error.";

pub(super) const VERIFY_EXAMPLES: &str = "\
Every file must be listed and every listed file be there, unchanged; the key, its id and the scope
must be those that are given here; and the bundle must not have expired.

Examples:
  database-operator policy verify signed.tar.gz --key key.pub.pem --key-id release-1 --scope production
      What clusters with this key would say
  database-operator policy verify signed.tar.gz --key key.pub.pem --key-id release-1 --above 41
      And where the sequence 41 is active

Exit codes: 0 it holds, 1 refused, 2 error.";

pub(super) const INSPECT_EXAMPLES: &str = "\
Examples:
  database-operator policy inspect policies.tar.gz
      What a bundle holds, whatever its signature says
  database-operator policy inspect policies -o json
      A folder, for a program

Exit codes: 0 done, 2 error.";

/// Arguments of `policy build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// Folder with policies, or a bundle to be built anew
    #[arg(value_name = "PATH")]
    pub from: PathBuf,

    /// File to write
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// Also put tests in it
    #[arg(long)]
    pub tests: bool,

    /// Bundle that is in force beside it, if this one asks for rules or data of that; may be repeated
    #[arg(long, value_name = "PATH")]
    pub with: Vec<PathBuf>,

    /// Name of this state of the policies. Default: what the manifest says
    #[arg(long, value_name = "TEXT")]
    pub revision: Option<String>,

    /// Its number, which grows. Default: what the manifest says
    #[arg(long, value_name = "N")]
    pub sequence: Option<u64>,

    /// From when on it must not be activated (RFC 3339). Default: what the manifest says
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Timestamp>,

    /// Sequence of the newer bundle that this older one takes back
    #[arg(long, value_name = "N")]
    pub rollback_from: Option<u64>,
}

/// Arguments of `policy sign`.
#[derive(Debug, Args)]
pub(crate) struct SignArguments {
    /// Bundle to sign
    #[arg(value_name = "BUNDLE")]
    pub from: PathBuf,

    /// File to write
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// Private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// Name under which clusters know the key
    #[arg(long, value_name = "ID")]
    pub key_id: String,

    /// What the bundle is for
    #[arg(long, value_name = "SCOPE", default_value = "")]
    pub scope: String,

    /// How it is signed. Default: the first that fits the key of ES256, ES384, RS256, EdDSA
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm)]
    pub algorithm: Option<Algorithm>,
}

/// Arguments of `policy verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Bundle to verify
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,

    /// Public key (PEM)
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// Name under which the key is known
    #[arg(long, value_name = "ID")]
    pub key_id: String,

    /// What the bundle must be signed for
    #[arg(long, value_name = "SCOPE", default_value = "")]
    pub scope: String,

    /// Sequence that is active, above which this one must be
    #[arg(long, value_name = "N")]
    pub above: Option<u64>,
}

/// Arguments of `policy inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// Bundle or folder
    #[arg(value_name = "PATH")]
    pub bundle: PathBuf,

    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: PolicyOutput,
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::named(name).ok_or_else(|| {
        let known: Vec<String> = Algorithm::ALL.iter().map(ToString::to_string).collect();
        format!("write one of {}", known.join(", "))
    })
}

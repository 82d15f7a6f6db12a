use std::collections::BTreeMap;

use super::super::keys::{PublicKey, SigningKey};
use super::super::signature::{self, Claims};
use super::super::{Files, Manifest, Metadata};
use super::*;

fn pem(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundle/fixtures/keys");
    std::fs::read_to_string(folder.join(format!("throw-away-{name}"))).unwrap()
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn trust(require_signature: bool) -> Trust {
    let key = PublicKey::from_pem(&pem("ed25519.pub.pem")).unwrap();
    Trust {
        keys: BTreeMap::from([("k".to_owned(), key)]),
        scope: String::new(),
        require_signature,
    }
}

fn metadata(sequence: u64) -> Metadata {
    Metadata {
        sequence: Some(sequence),
        ..Metadata::default()
    }
}

/// The revision makes the content, and so the digest, differ.
fn files(metadata: Metadata, revision: &str) -> Files {
    let mut files = Files::new();
    files
        .set_manifest(&Manifest {
            revision: revision.to_owned(),
            metadata,
            ..Manifest::default()
        })
        .unwrap();
    files
}

fn signed(metadata: Metadata) -> Bundle {
    let revision = format!("{metadata:?}");
    let key = SigningKey::from_pem(&pem("ed25519.pem"), None).unwrap();
    let claims = Claims {
        key_id: "k".to_owned(),
        scope: String::new(),
    };
    let files = signature::sign(&files(metadata, &revision), &key, &claims, now()).unwrap();
    Bundle::open("b", files, &trust(true), now()).unwrap()
}

fn unsigned(metadata: Metadata) -> Bundle {
    Bundle::open("b", files(metadata, "unsigned"), &trust(false), now()).unwrap()
}

fn active(sequence: u64) -> Activated {
    Activated::after(None, &signed(metadata(sequence)))
}

fn rollback(sequence: u64, rollback_from: u64) -> Metadata {
    Metadata {
        rollback_from: Some(rollback_from),
        ..metadata(sequence)
    }
}

#[test]
fn sequences_only_grow() {
    let policy = trust(true);
    assert_eq!(admit(None, &signed(metadata(1)), &policy, now()), Ok(()));
    assert_eq!(admit(Some(&active(7)), &signed(metadata(8)), &policy, now()), Ok(()));
    for sequence in [0, 6] {
        let refused = admit(Some(&active(7)), &signed(metadata(sequence)), &policy, now());
        assert!(
            matches!(
                refused,
                Err(Refusal::NotNewer {
                    highest: 7,
                    next: 8,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    let other = Metadata {
        other: [("x".to_owned(), 1.into())].into_iter().collect(),
        ..metadata(7)
    };
    let refused = admit(Some(&active(7)), &signed(other), &policy, now());
    assert!(
        matches!(refused, Err(Refusal::NotNewer { sequence: 7, .. })),
        "the same sequence, other content"
    );
    let refused = admit(Some(&active(u64::MAX)), &signed(metadata(3)), &policy, now());
    assert!(matches!(refused, Err(Refusal::NotNewer { .. })));
}

#[test]
fn the_active_content_may_come_again() {
    let bundle = signed(metadata(7));
    let current = Activated::after(None, &bundle);
    assert_eq!(admit(Some(&current), &bundle, &trust(true), now()), Ok(()));
    assert_eq!(Activated::after(Some(&current), &bundle), current);
}

#[test]
fn a_signed_rollback_names_the_highest_sequence() {
    let policy = trust(true);
    assert_eq!(admit(Some(&active(9)), &signed(rollback(7, 9)), &policy, now()), Ok(()));
    for from in [7, 8, 10] {
        let refused = admit(Some(&active(9)), &signed(rollback(7, from)), &policy, now());
        assert!(
            matches!(refused, Err(Refusal::RollbackOfOther { highest: 9, .. })),
            "{from}: {refused:?}"
        );
    }
    let refused = admit(Some(&active(9)), &unsigned(rollback(7, 9)), &trust(false), now());
    assert!(
        matches!(refused, Err(Refusal::UnsignedRollback { rollback_from: 9, .. })),
        "{refused:?}"
    );
}

#[test]
fn what_was_taken_back_stays_taken_back() {
    let policy = trust(true);
    let back = Activated::after(Some(&active(9)), &signed(rollback(7, 9)));
    assert_eq!((back.sequence, back.highest), (Some(7), Some(9)));
    for sequence in [8, 9] {
        let refused = admit(Some(&back), &signed(metadata(sequence)), &policy, now());
        assert!(
            matches!(
                refused,
                Err(Refusal::NotNewer {
                    highest: 9,
                    next: 10,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    assert_eq!(admit(Some(&back), &signed(metadata(10)), &policy, now()), Ok(()));
    let forward = Activated::after(Some(&back), &signed(metadata(10)));
    assert_eq!((forward.sequence, forward.highest), (Some(10), Some(10)));
    // The old rollback cannot be played again.
    assert!(admit(Some(&forward), &signed(rollback(7, 9)), &policy, now()).is_err());
}

#[test]
fn no_rollback_can_be_played_again() {
    let policy = trust(true);
    let mut current: Option<Activated> = None;
    let mut play = |metadata: Metadata| {
        let bundle = signed(metadata);
        let said = admit(current.as_ref(), &bundle, &policy, now());
        if said.is_ok() {
            current = Some(Activated::after(current.as_ref(), &bundle));
        }
        said
    };
    for accepted in [metadata(5), rollback(3, 5), metadata(6), rollback(5, 6)] {
        assert_eq!(play(accepted), Ok(()));
    }
    let again = play(rollback(3, 5));
    assert!(
        matches!(again, Err(Refusal::RollbackOfOther { highest: 6, .. })),
        "{again:?}"
    );
    // Further back, and not forth again.
    assert_eq!(play(rollback(2, 6)), Ok(()));
    let again = play(rollback(5, 6));
    assert!(
        matches!(
            again,
            Err(Refusal::NotBack {
                sequence: 5,
                active: 2,
                ..
            })
        ),
        "{again:?}"
    );
    assert_eq!(play(metadata(7)), Ok(()));
}

#[test]
fn expired_bundles_are_refused_whatever_else_they_say() {
    let until = |time: &str| Metadata {
        expires: Some(time.parse().unwrap()),
        ..metadata(8)
    };
    let policy = trust(true);
    assert_eq!(
        admit(Some(&active(7)), &signed(until("2026-06-01T00:00:01Z")), &policy, now()),
        Ok(())
    );
    for time in ["2026-06-01T00:00:00Z", "2020-01-01T00:00:00Z"] {
        let refused = admit(Some(&active(7)), &signed(until(time)), &policy, now());
        assert!(matches!(refused, Err(Refusal::Expired { .. })), "{refused:?}");
    }
    let bundle = signed(until("2026-06-01T00:00:00Z"));
    let current = Activated::after(None, &bundle);
    assert!(matches!(
        admit(Some(&current), &bundle, &policy, now()),
        Err(Refusal::Expired { .. })
    ));
}

#[test]
fn unsigned_bundles_pass_only_where_no_signature_is_required() {
    assert!(matches!(
        admit(None, &unsigned(metadata(1)), &trust(true), now()),
        Err(Refusal::Unsigned { .. })
    ));
    assert_eq!(admit(None, &unsigned(metadata(1)), &trust(false), now()), Ok(()));
}

#[test]
fn a_key_that_is_no_longer_trusted_does_not_count() {
    let policy = Trust {
        keys: BTreeMap::new(),
        ..trust(true)
    };
    let refused = admit(None, &signed(metadata(1)), &policy, now());
    assert!(matches!(refused, Err(Refusal::KeyNotTrusted { .. })), "{refused:?}");
}

#[test]
fn a_bundle_without_sequence_passes_only_unsigned_and_before_any_with_one() {
    let none = Metadata::default();
    let refused = admit(None, &signed(none.clone()), &trust(true), now());
    assert!(
        matches!(refused, Err(Refusal::NoSequence { next: 1, .. })),
        "{refused:?}"
    );
    assert_eq!(admit(None, &unsigned(none.clone()), &trust(false), now()), Ok(()));
    let current = Activated::after(None, &signed(none.clone()));
    assert_eq!(
        admit(Some(&current), &unsigned(none.clone()), &trust(false), now()),
        Ok(())
    );
    let refused = admit(Some(&active(7)), &unsigned(none), &trust(false), now());
    assert!(
        matches!(refused, Err(Refusal::NoSequence { next: 8, .. })),
        "{refused:?}"
    );
}

#[test]
fn refusals_say_what_where_and_how_to_mend_it() {
    let refused = admit(Some(&active(9)), &unsigned(metadata(7)), &trust(false), now()).unwrap_err();
    let expected = "bundle b, revision \"unsigned\": sequence 7 is not above 9, the highest so far; give it at least 10, \
                    or, to go back, sign it with metadata.rollback_from 9";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn what_is_remembered_survives_a_restart() {
    let current = active(9);
    let text = serde_json::to_string(&current).unwrap();
    assert_eq!(serde_json::from_str::<Activated>(&text).unwrap(), current);
}

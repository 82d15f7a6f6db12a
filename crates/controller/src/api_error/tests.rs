use super::*;

fn class(code: u16, reason: &str, message: &str) -> ApiError {
    let status = Status {
        code,
        ..Status::failure(message, reason)
    };
    ApiError::of("Service orders-rw", kube::Error::Api(status.boxed()))
}

const DENIED: &str = "services \"orders-rw\" is forbidden: ValidatingAdmissionPolicy 'database-operator-fence-update' with \
                      binding 'database-operator-fence-update' denied request: ";

#[test]
fn a_verdict_of_the_fence_is_a_class_of_its_own() {
    let error = class(
        403,
        "Forbidden",
        &format!("{DENIED}stale owner: epoch 9 is older than the map: 10"),
    );
    assert!(matches!(error, ApiError::Fenced { .. }), "{error:?}");
    assert_eq!(error.error_type(), ErrorType::Fenced);
    assert!(error.ownership_is_over());
}

#[test]
fn a_fence_that_cannot_judge_is_an_outage_and_no_fault_of_the_object() {
    for (code, reason, message) in [
        (
            422,
            "Invalid",
            format!("{DENIED}failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
        ),
        (
            422,
            "Invalid",
            "services \"orders-rw\" is forbidden: ValidatingAdmissionPolicy 'database-operator-fence-update' denied request: \
             failed to configure policy: failed to find resource referenced by paramKind: 'intent.example.com/v1, Kind=ShardMap'"
                .to_owned(),
        ),
        (500, "InternalError", format!("{DENIED}anything")),
        (
            403,
            "Forbidden",
            "services \"orders-rw\" is forbidden: not yet ready to handle request".to_owned(),
        ),
    ] {
        let error = class(code, reason, &message);
        assert!(matches!(error, ApiError::Unjudged { .. }), "{error:?}");
        assert_eq!(error.error_type(), ErrorType::Transient);
        assert_eq!(error.write_outcome(), Some(WriteOutcome::Error));
        assert!(!error.ownership_is_over());
    }
}

#[test]
fn what_others_refuse_is_no_matter_of_ownership() {
    let theirs = "services \"orders-rw\" is forbidden: ValidatingAdmissionPolicy 'no-services' with binding 'x' denied request: no";
    assert!(matches!(class(403, "Forbidden", theirs), ApiError::Forbidden { .. }));
    assert!(matches!(class(422, "Invalid", theirs), ApiError::Invalid { .. }));
    let named = "services \"database-operator-fence-x\" is forbidden: User \"x\" cannot create resource";
    assert!(matches!(class(403, "Forbidden", named), ApiError::Forbidden { .. }));
    assert!(matches!(class(409, "Conflict", "changed"), ApiError::Conflict { .. }));
}

//! The closed words that may label a series. Labels are enums, so no name of an object can ever become one.

/// A label with a fixed set of values.
pub trait Label: Copy + 'static {
    /// All values, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The value as it is shown. Stable: dashboards and alerts use it.
    fn label(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;

    /// The value that is shown as `label`.
    fn named(label: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.label() == label)
    }
}

/// Defines a label from one table of values, so that none can be forgotten in [`Label::ALL`].
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// A step of one reconcile, in order.
    Step {
        /// Read from the caches what the Database refers to.
        Dereference = "dereference",
        /// Check the intent.
        Validate = "validate",
        /// Compute what must be done.
        Plan = "plan",
        /// Write the children.
        Apply = "apply",
        /// Write the status.
        Report = "report",
    }
}

label! {
    /// What a step concluded.
    Outcome {
        /// It did what it should.
        Done = "done",
        /// There was nothing to do.
        Nothing = "nothing",
        /// The user must act: the intent is refused by a rule. Not a fault of the operator.
        Refused = "refused",
        /// It failed and will be tried again. Worth an alert if it lasts.
        Failed = "failed",
    }
}

label! {
    /// What a whole reconcile came to.
    Verdict {
        /// The Database is, or is becoming, what its accepted intent says.
        Success = "success",
        /// The user must act: the intent is refused by a rule. Not a fault of the operator.
        Refused = "refused",
        /// It failed and will be tried again. Worth an alert if it lasts.
        Error = "error",
    }
}

label! {
    /// Why something failed, by what happens next.
    ErrorType {
        /// Proven: only a change of the intent helps.
        User = "user",
        /// Proven: only a change of the intent helps, although the intent is valid.
        Permanent = "permanent",
        /// Somebody else wrote first: read again.
        Conflict = "conflict",
        /// The API server asked for less.
        Throttled = "throttled",
        /// A quota is used up.
        Quota = "quota",
        /// A database, or something else outside, does not answer.
        Unreachable = "unreachable",
        /// Going on could lose data: a person must look.
        Safety = "safety",
        /// Another replica owns the Database now.
        LostOwnership = "lost_ownership",
        /// The API server's fence took this replica for one whose ownership is over.
        Fenced = "fenced",
        /// Anything else. Unknown errors may pass.
        Transient = "transient",
    }
}

label! {
    /// Who asks policies.
    PolicySource {
        /// The API server.
        Admission = "admission",
        /// A reconcile, before it accepts a change.
        Reconcile = "reconcile",
        /// A look at what was accepted.
        Audit = "audit",
        /// The command line.
        Cli = "cli",
    }
}

label! {
    /// What policies say.
    PolicyVerdict {
        /// Nothing speaks against it.
        Allow = "allow",
        /// Allowed, with words.
        Warn = "warn",
        /// Refused by rules.
        Deny = "deny",
        /// They could not be asked; refused too.
        Error = "error",
    }
}

label! {
    /// Why policies were not put in force.
    PolicyFailure {
        /// A source cannot be read, or holds no bundle.
        Source = "source",
        /// A source changes all the time.
        Changing = "changing",
        /// Keys cannot be read.
        Keys = "keys",
        /// A signature does not hold.
        Signature = "signature",
        /// Files mean nothing.
        Content = "content",
        /// It is not known what was in force before, or cannot be remembered.
        State = "state",
        /// Older, expired, unsigned.
        Refused = "refused",
        /// The gate could not be asked.
        Gate = "gate",
        /// The gate, or the interpreter, refuses them.
        Policies = "policies",
    }
}

label! {
    /// Why a decision is not in the store of the log.
    LogDrop {
        /// The store is slower than decisions come.
        QueueFull = "queue_full",
        /// It is too large.
        TooLarge = "too_large",
        /// The store fails.
        StoreError = "store_error",
    }
}

label! {
    /// How a request of the API server to the webhook ended.
    WebhookOutcome {
        /// Allowed by policies.
        Allowed = "allowed",
        /// Allowed by policies, with warnings.
        Warned = "warned",
        /// Refused by policies.
        Denied = "denied",
        /// Refused, because policies could not be asked.
        Error = "error",
        /// Allowed; there was nothing to ask.
        Passed = "passed",
        /// Turned away: too much to do.
        Busy = "busy",
        /// Refused: no decision in time, or a body that came too slowly.
        Late = "late",
        /// Refused: what was asked could not be understood.
        Odd = "odd",
        /// Refused: too large.
        TooLarge = "too_large",
        /// Not answered: whoever asked did not wait.
        Gone = "gone",
    }
}

label! {
    /// Why the webhook turned a request away.
    WebhookShed {
        /// As many requests as may be are being judged.
        Requests = "requests",
        /// As many questions as may be wait for the threads that ask policies.
        Policies = "policies",
        /// Large bodies have taken the room that there is for them.
        Room = "room",
    }
}

label! {
    /// What became of a connection to the HTTPS server.
    HttpsConnection {
        /// Taken.
        Accepted = "accepted",
        /// Closed at once: there are as many as may be.
        Refused = "refused",
        /// Given up: no handshake, or none in time.
        NoHandshake = "no_handshake",
    }
}

label! {
    /// A certificate of the HTTPS server.
    HttpsCertificate {
        /// The one that is shown.
        Shown = "shown",
        /// The operator's own authority.
        Authority = "authority",
    }
}

label! {
    /// What is wrong with the certificates of the HTTPS server.
    CertificateTrouble {
        /// None is shown: no handshake succeeds.
        Missing = "missing",
        /// The registration of the webhook does not accept what is shown.
        NotAccepted = "not_accepted",
        /// They cannot be read, made, or written.
        Failing = "failing",
    }
}

label! {
    /// How a request for decisions ended.
    DecisionsResult {
        /// Answered.
        Ok = "ok",
        /// A parameter is none.
        Invalid = "invalid",
        /// Nobody knows who asks.
        Unauthorised = "unauthorised",
        /// They may not see that.
        Denied = "denied",
        /// Turned away: too many ask.
        Shed = "shed",
        /// No answer: the API server or the store is not there, it took too long, or a defect.
        Error = "error",
        /// Not answered: whoever asked did not wait.
        Gone = "gone",
    }
}

label! {
    /// Why a reconcile did not come to its end.
    BrokenOff {
        /// It panicked.
        Panic = "panic",
        /// It took longer than it may.
        Deadline = "deadline",
    }
}

label! {
    /// A kind of write to the API server.
    Action {
        /// An object that is created and never applied: credentials, volumes.
        CreateOnce = "create_once",
        /// A server-side apply of a child.
        Apply = "apply",
        /// A patch of a child: a volume's size, a pod's role.
        Patch = "patch",
        /// The deletion of a child.
        Delete = "delete",
        /// The deletion of a pod, so that it starts anew.
        RestartPod = "restart_pod",
        /// Finalizer and labels on the Database.
        Stamp = "stamp",
        /// An accepted spec, kept as a `ControllerRevision`; also the removal of an old one.
        Revision = "revision",
        /// The status of the Database.
        Status = "status",
        /// An event.
        Event = "event",
    }
}

label! {
    /// How a write ended.
    WriteOutcome {
        /// The API server accepted it.
        Success = "success",
        /// Refused, because the object is not what it was taken to be (409).
        Conflict = "conflict",
        /// Refused by a rule or for want of permission (403, 422 and other 4xx).
        Refused = "refused",
        /// Asked to come back later (429).
        Throttled = "throttled",
        /// No answer, or the API server's own fault (5xx).
        Error = "error",
    }
}

label! {
    /// The summary of a Database's state.
    Phase {
        /// Seen, nothing made yet.
        Pending = "Pending",
        /// Its children are being made.
        Creating = "Creating",
        /// It answers.
        Ready = "Ready",
        /// A change is under way.
        Updating = "Updating",
        /// It is being deleted.
        Deleting = "Deleting",
        /// It needs a person.
        Failed = "Failed",
    }
}

label! {
    /// What a replica does in a bucket of its own.
    BucketWork {
        /// It starts work.
        Serving = "serving",
        /// It ends what runs, for another replica.
        Draining = "draining",
    }
}

label! {
    /// What keeps a replica whose ownership is over from writing.
    FenceLayer {
        /// It stops by itself before its Lease ends.
        SelfFence = "self_fence",
        /// Its requests name the version that they are for.
        Preconditions = "preconditions",
        /// The API server compares epochs.
        Policies = "policies",
    }
}

label! {
    /// What nobody looks after.
    Orphan {
        /// A bucket that the map gives to nobody.
        Bucket = "bucket",
        /// A Database whose label names another bucket than its own. Its watcher puts that right within seconds.
        Database = "database",
    }
}

label! {
    /// Why a map is not obeyed.
    MapRefusal {
        /// It is of another installation.
        Foreign = "foreign",
        /// It is for another number of buckets.
        BucketCount = "bucket_count",
        /// Somebody changed it by hand.
        Edited = "edited",
        /// It is older than one that was seen.
        Older = "older",
        /// No leader writes such a one.
        Malformed = "malformed",
    }
}

label! {
    /// How a write of a replica's own Lease ended.
    Renewal {
        /// The API server accepted it.
        Success = "success",
        /// Somebody else wrote before.
        Conflict = "conflict",
        /// No answer in time, or an error.
        Unknown = "unknown",
    }
}

label! {
    /// How a request is sent.
    Method {
        /// Reads, lists and watches.
        Get = "GET",
        /// Creations.
        Post = "POST",
        /// Replacements: Leases and the map.
        Put = "PUT",
        /// Patches, and server-side applies.
        Patch = "PATCH",
        /// Deletions.
        Delete = "DELETE",
        /// None of these.
        Other = "other",
    }
}

impl Method {
    /// The method of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self::named(name).unwrap_or(Self::Other)
    }
}

label! {
    /// What the API server answered.
    AnswerCode {
        /// OK.
        Ok = "200",
        /// Created.
        Created = "201",
        /// Bad request.
        BadRequest = "400",
        /// Who is that?
        Unauthorized = "401",
        /// Permissions, quotas, policies; the fence.
        Forbidden = "403",
        /// Not found.
        NotFound = "404",
        /// Conflict.
        Conflict = "409",
        /// A watch or a list from a version that is too old.
        Gone = "410",
        /// Invalid.
        Unprocessable = "422",
        /// Too many requests.
        TooMany = "429",
        /// Internal error.
        Internal = "500",
        /// Unavailable.
        Unavailable = "503",
        /// Timeout.
        Timeout = "504",
        /// Any other number.
        Other = "other",
        /// No answer. As in client-go.
        Error = "<error>",
    }
}

impl AnswerCode {
    /// The label of this status; `None` if there was no answer.
    #[must_use]
    pub fn of(status: Option<u16>) -> Self {
        status.map_or(Self::Error, |status| {
            Self::named(&status.to_string()).unwrap_or(Self::Other)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check<L: Label + PartialEq + std::fmt::Debug>() {
        assert_eq!(L::named("something else"), None);
        let labels: BTreeSet<_> = L::ALL.iter().map(|value| value.label()).collect();
        assert_eq!(
            labels.len(),
            L::ALL.len(),
            "two values would share a series: {:?}",
            L::ALL
        );
        for (index, value) in L::ALL.iter().enumerate() {
            assert_eq!(value.index(), index, "{value:?}");
            assert_eq!(L::named(value.label()), Some(*value));
        }
    }

    #[test]
    fn every_value_has_its_own_label_and_place() {
        check::<Step>();
        check::<Outcome>();
        check::<Verdict>();
        check::<ErrorType>();
        check::<Action>();
        check::<WriteOutcome>();
        check::<Phase>();
        check::<PolicySource>();
        check::<PolicyVerdict>();
        check::<LogDrop>();
        check::<PolicyFailure>();
        check::<BucketWork>();
        check::<MapRefusal>();
        check::<Renewal>();
        check::<WebhookOutcome>();
        check::<WebhookShed>();
        check::<HttpsConnection>();
        check::<HttpsCertificate>();
        check::<CertificateTrouble>();
        check::<DecisionsResult>();
    }
}

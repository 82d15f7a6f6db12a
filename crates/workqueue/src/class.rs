/// Why a key should run, most urgent first: the order of the variants is the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Something is being deleted, or must stop being written: others wait for it.
    Deletion,
    /// A user changed the intent and is watching.
    UserChange,
    /// A child differs from what was written: repair.
    ChildDrift,
    /// The last run failed in a way that may pass.
    Retry,
    /// Nothing is known to have changed: initial list, periodic look, handover.
    Resync,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Deletion,
        Self::UserChange,
        Self::ChildDrift,
        Self::Retry,
        Self::Resync,
    ];

    /// The more urgent of both.
    #[must_use]
    pub fn more_urgent(self, other: Self) -> Self {
        self.min(other)
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn all_lists_every_class_in_the_order_of_its_discriminant() {
        assert!(
            Class::ALL
                .iter()
                .enumerate()
                .all(|(index, class)| *class as usize == index)
        );
        assert_eq!(Class::ALL.len(), Class::Resync as usize + 1);
    }

    #[test]
    fn deletion_is_more_urgent_than_resync() {
        assert_eq!(Class::Resync.more_urgent(Class::Deletion), Class::Deletion);
        assert_eq!(Class::Deletion.more_urgent(Class::Resync), Class::Deletion);
    }
}

//! The hash must be the same in every version of the binary, for ever.

use sharding::{BUCKETS, Bucket, bucket_of, hash_of};

#[test]
fn golden_vectors_hold() {
    let mut checked = 0;
    for line in include_str!("golden_buckets.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let [namespace, name, hash, bucket] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("expected four words: {line:?}");
        };
        let hash = hash.strip_prefix("0x").expect("a hash in hexadecimal");
        let hash = u64::from_str_radix(hash, 16).expect("a hash in hexadecimal");
        let bucket: Bucket = bucket.parse().expect("a bucket");
        assert_eq!(hash_of(namespace, name), hash, "{namespace}/{name}");
        assert_eq!(bucket_of(namespace, name), bucket, "{namespace}/{name}");
        checked += 1;
    }
    assert_eq!(checked, 31, "lines are only added, and then this number with them");
}

/// Namespace and name of the n-th Database.
type NameOf = fn(u32) -> (String, String);

/// Names as people choose them (long common prefixes, counters) must spread as evenly as chance would: Pearson's
/// statistic of 1024 buckets has mean 1023 and standard deviation 45, so 1250 is five of them away.
#[test]
fn similar_names_spread_evenly() {
    const DATABASES: u32 = 200_000;
    let shapes: [(&str, NameOf); 4] = [
        ("counted names", |n| ("default".to_owned(), format!("db-{n}"))),
        ("counted namespaces", |n| (format!("team-{n:06}"), "orders".to_owned())),
        ("both", |n| (format!("team-{}", n % 500), format!("orders-{}", n / 500))),
        ("long common prefix", |n| {
            (
                "production-eu-central-1".to_owned(),
                format!("customer-database-main-{n:06}"),
            )
        }),
    ];
    for (shape, name_of) in shapes {
        let mut counts = vec![0_u32; usize::from(BUCKETS)];
        for n in 0..DATABASES {
            let (namespace, name) = name_of(n);
            counts[usize::from(bucket_of(&namespace, &name).index())] += 1;
        }
        let expected = f64::from(DATABASES) / f64::from(BUCKETS);
        let statistic: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum();
        assert!(statistic < 1250.0, "{shape}: {statistic}");
        assert!(
            statistic > 800.0,
            "{shape}: {statistic} is more even than chance, so the counting is wrong"
        );
    }
}

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::label::Label;

/// One counter for each pair of values, all there from the start. Counting is an array access, no hashing.
#[derive(Clone)]
pub struct Counters<A, B> {
    series: Arc<[IntCounter]>,
    labels: PhantomData<fn(A, B)>,
}

impl<A: Label, B: Label> Counters<A, B> {
    /// Registers all series at 0. `labels` are the names of the labels whose values `A` and `B` are.
    pub fn register(registry: &Registry, name: &str, help: &str, labels: [&str; 2]) -> prometheus::Result<Self> {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        registry.register(Box::new(family.clone()))?;
        let pairs = A::ALL
            .iter()
            .flat_map(|a| B::ALL.iter().map(move |b| [a.label(), b.label()]));
        let series = pairs
            .map(|pair| family.get_metric_with_label_values(&pair))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            series,
            labels: PhantomData,
        })
    }

    /// Counts one.
    pub fn record(&self, a: A, b: B) {
        self.add(a, b, 1);
    }

    /// Counts so many.
    pub fn add(&self, a: A, b: B, count: u64) {
        self.series[a.index() * B::ALL.len() + b.index()].inc_by(count);
    }
}

/// One counter for each value, all there from the start.
#[derive(Clone)]
pub struct Tally<A> {
    series: Arc<[IntCounter]>,
    labels: PhantomData<fn(A)>,
}

impl<A: Label> Tally<A> {
    /// Registers all series at 0. `label` is the name of the label whose values `A` are.
    pub fn register(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<Self> {
        Self::with(registry, Opts::new(name, help), label)
    }

    /// The same, with options of its own.
    pub(crate) fn with(registry: &Registry, opts: Opts, label: &str) -> prometheus::Result<Self> {
        let family = IntCounterVec::new(opts, &[label])?;
        registry.register(Box::new(family.clone()))?;
        let series = A::ALL
            .iter()
            .map(|a| family.get_metric_with_label_values(&[a.label()]))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            series,
            labels: PhantomData,
        })
    }

    /// Counts one.
    pub fn record(&self, a: A) {
        self.add(a, 1);
    }

    /// Takes over what is counted elsewhere.
    pub fn set(&self, a: A, count: u64) {
        let series = &self.series[a.index()];
        series.reset();
        series.inc_by(count);
    }

    /// Counts so many.
    pub fn add(&self, a: A, count: u64) {
        self.series[a.index()].inc_by(count);
    }
}

/// One gauge for each value, all there from the start.
#[derive(Clone)]
pub struct Gauges<A> {
    series: Arc<[IntGauge]>,
    labels: PhantomData<fn(A)>,
}

impl<A: Label> Gauges<A> {
    /// Registers all series at 0. `label` is the name of the label whose values `A` are.
    pub fn register(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<Self> {
        Self::with(registry, Opts::new(name, help), label)
    }

    /// The same, with options of its own.
    pub(crate) fn with(registry: &Registry, opts: Opts, label: &str) -> prometheus::Result<Self> {
        let family = IntGaugeVec::new(opts, &[label])?;
        registry.register(Box::new(family.clone()))?;
        let series = A::ALL
            .iter()
            .map(|a| family.get_metric_with_label_values(&[a.label()]))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            series,
            labels: PhantomData,
        })
    }

    /// Sets one.
    pub(crate) fn set(&self, a: A, count: usize) {
        self.series[a.index()].set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts anew: `visit` calls what it is given once for each thing there is, and then all gauges are set.
    pub fn count(&self, visit: impl FnOnce(&mut dyn FnMut(A))) {
        let mut counts = vec![0_i64; A::ALL.len()];
        visit(&mut |a| counts[a.index()] += 1);
        for (gauge, count) in self.series.iter().zip(counts) {
            gauge.set(count);
        }
    }
}

/// One histogram of durations for each value, all there from the start.
#[derive(Clone)]
pub struct Histograms<A> {
    series: Arc<[Histogram]>,
    labels: PhantomData<fn(A)>,
}

impl<A: Label> Histograms<A> {
    /// Registers all series at 0. `label` is the name of the label whose values `A` are.
    pub fn register(
        registry: &Registry,
        name: &str,
        help: &str,
        label: &str,
        buckets_seconds: &[f64],
    ) -> prometheus::Result<Self> {
        let opts = HistogramOpts::new(name, help).buckets(buckets_seconds.to_vec());
        Self::with(registry, opts, label)
    }

    /// The same, with options of its own.
    pub(crate) fn with(registry: &Registry, opts: HistogramOpts, label: &str) -> prometheus::Result<Self> {
        let family = HistogramVec::new(opts, &[label])?;
        registry.register(Box::new(family.clone()))?;
        let series = A::ALL
            .iter()
            .map(|a| family.get_metric_with_label_values(&[a.label()]))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            series,
            labels: PhantomData,
        })
    }

    /// Counts one duration.
    pub fn observe(&self, a: A, duration: Duration) {
        self.series[a.index()].observe(duration.as_secs_f64());
    }
}

//! A fleet of one that no API server knows of: for tests of what works in buckets.

use std::sync::Arc;

use sharding::protocol::{Event, Incarnation, Work};
use sharding::timing::Millis;
use sharding::{Bucket, Epoch};
use tokio::sync::{mpsc, watch};

use crate::clock::Clocks;
use crate::handle::{Fleet, Order, Orders, Served, Told};

/// Serves all buckets under this epoch, without a Lease, until it is asked to leave. Needs a tokio runtime.
#[must_use]
pub fn alone(epoch: Epoch) -> (Fleet, Orders) {
    let (events, told) = mpsc::unbounded_channel();
    let (orders, taken) = mpsc::unbounded_channel();
    let (served, shown) = watch::channel(all(Work::Serving(epoch)));
    let fleet = Fleet {
        me: Incarnation {
            name: "alone".into(),
            nonce: 0,
        },
        served: shown,
        events,
        clocks: Clocks::default(),
    };
    tokio::spawn(run(epoch, served, told, orders));
    (fleet, taken)
}

async fn run(
    epoch: Epoch,
    served: watch::Sender<Served>,
    mut told: mpsc::UnboundedReceiver<Told>,
    orders: mpsc::UnboundedSender<Order>,
) {
    let serve = Bucket::all().map(|bucket| (bucket, epoch)).collect();
    // Who takes no orders is gone.
    if orders.send(Order::Serve(serve)).is_err() {
        return;
    }
    let mut busy = Bucket::all().len();
    while let Some(event) = told.recv().await {
        match event {
            Told::Event(Event::Leave | Event::GiveUp) => {
                served.send_replace(all(Work::Draining(epoch)));
                if orders.send(Order::Drain(0, Bucket::all().collect())).is_err() {
                    return;
                }
            }
            Told::Idle(0, _) => busy -= 1,
            Told::Event(_) | Told::Idle(..) => {}
        }
        if busy == 0 {
            return;
        }
    }
}

fn all(work: Work) -> Served {
    Served {
        work: Bucket::all().map(|_| Some(work)).collect::<Arc<[_]>>(),
        start_until: Millis::MAX,
        stop_at: Millis::MAX,
        map: None,
        leads: true,
    }
}

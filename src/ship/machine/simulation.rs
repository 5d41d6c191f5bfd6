//! The machine in thousands of small worlds, each drawn from one number.
//!
//! ```text
//!  recorder ─deeds─▶ disk ─hints, lost, late, doubled─▶ machine ─effects─▶ steps ─▶ disk, receiver
//!                                                         ▲                 │
//!                                                         │                 │  crashes, faults,
//!                                                         └─ results, late ─┘  outages, poison
//! ```
//!
//! A world has a disk, a recorder that meddles, a way to the receiver on which anything may answer
//! anything, and a receiver that overwrites nothing. Time is virtual: it goes on to what happens
//! next, or to the machine's deadline. After every step `checks.rs` compares what the machine did
//! with what is true.
//!
//! A world that fails prints its seed. To live through it again, with everything that happens
//! written down:
//!
//! ```text
//! SEALIFT_SIM_SEED=1234 cargo test --lib simulation
//! SEALIFT_SIM_WORLDS=100000 cargo test --lib simulation      more worlds than usual
//! ```
//!
//! What the machine asked for in each of the worlds is on record as a digest (`stream.rs`): a
//! change that is to change no rule changes none of them.

mod books;
mod checks;
mod crowds;
mod dice;
mod disk;
mod fleet;
mod hosts;
mod middle;
mod moves;
mod neighbours;
mod plan;
mod recorder;
mod steps;
mod stream;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use self::world::World;

/// So many are lived through in a few seconds, on one core, without optimisation.
const WORLDS: u64 = 4_000;

#[test]
fn every_world_keeps_the_promises() {
    if let Some(seed) = number("SEALIFT_SIM_SEED") {
        live(seed, true);
        return;
    }
    let worlds = number("SEALIFT_SIM_WORLDS").unwrap_or(WORLDS);
    // Two threads, each with every other world.
    std::thread::scope(|scope| {
        let half = |first: u64| {
            let seeds = (first..worlds).step_by(2);
            scope.spawn(move || {
                seeds
                    .map(|seed| (seed, live(seed, false)))
                    .collect::<Vec<_>>()
            })
        };
        let lived = [half(0), half(1)]
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        let mut lived = lived.concat();
        lived.sort_unstable();
        stream::compare_worlds(&lived);
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..60 {
        let run = || {
            let mut world = World::new(seed, false);
            world.run();
            world.fingerprint()
        };
        assert_eq!(run(), run(), "world {seed}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[expect(
    clippy::print_stderr,
    reason = "the seed of a world that failed, and its story, are for the reader of the test"
)]
fn live(seed: u64, log: bool) -> String {
    let mut world = World::new(seed, log);
    let lived = catch_unwind(AssertUnwindSafe(|| world.run()));
    for line in world.log.iter().flatten() {
        eprintln!("{line}");
    }
    if let Err(panic) = lived {
        eprintln!(
            "world {seed} broke a promise; its story: SEALIFT_SIM_SEED={seed} cargo test --lib simulation"
        );
        resume_unwind(panic);
    }
    world.stream.digest()
}

//! The world around the machine: time, what happens when, processes that begin and end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    checks::Watched,
    dice::Dice,
    disk::{Archive, Disk, Store},
    plan::{Plan, Poison, Profile},
    recorder::Deed,
    steps::Job,
    stream::Stream,
};
use crate::{
    model::episode::EpisodeId,
    ship::machine::{Event, Machine, Tally},
};

/// After the last fault everything is done within this: the longest waits are an hour (of an
/// episode that was refused, of a `Retry-After`), and the probes of a hold come on top.
const LIMIT: Duration = Duration::from_secs(2 * 3600 + 1800);
/// After everything is done nothing more happens: three reconcile intervals.
const LINGER: Duration = Duration::from_secs(180);
/// As the daemon's.
const GRACE: Duration = Duration::from_secs(5);

/// What happens at a time. The numbers are those of the process it belongs to.
#[derive(Debug)]
pub(super) enum Act {
    Record(EpisodeId, Deed),
    /// A step does its work; then, a little later, its result is heard.
    Apply(u64),
    Report(u64),
    Unwatch(u32, EpisodeId),
    Hint(u32, EpisodeId),
    Overflow(u32),
    Say(u32, Box<Event>),
    /// Watches can be had from now on, or not.
    Watches(bool),
    /// `episodes/` is mounted over: every watch is gone.
    LoseWatches,
    /// A person has the configuration read again.
    Reload,
    /// A person takes the conflict away that its sidecar remembers.
    Forget(EpisodeId),
    /// A bit of an archive in the outbox tips over.
    Rot(EpisodeId),
    /// What was on its way when the process was killed arrives all the same.
    Straggler(EpisodeId, u64),
    Crash,
    Stop,
    GraceOver(u32),
    Start,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) now: Duration,
    pub(super) machine: Option<Machine>,
    pub(super) process: u32,
    pub(super) stopping: bool,
    pub(super) disk: Disk,
    pub(super) receiver: Store,
    pub(super) agenda: BTreeMap<(Duration, u64), Act>,
    pub(super) jobs: BTreeMap<u64, Job>,
    serial: u64,
    /// Archives that have no final name yet: open files of the process.
    pub(super) scratch: BTreeMap<EpisodeId, Archive>,
    pub(super) can_watch: bool,
    pub(super) root_watched: bool,
    /// The inode of each directory that is watched.
    pub(super) watched: BTreeMap<EpisodeId, u64>,
    /// The watching thread does one thing after the other, and is heard in that order.
    pub(super) watch_thread: (Duration, Duration),
    pub(super) sealed_at: BTreeMap<EpisodeId, Duration>,
    /// What a receiver has rejected in JSON.
    pub(super) rejected: BTreeSet<(EpisodeId, u16)>,
    pub(super) seen: Watched,
    pub(super) stream: Stream,
    settled_at: Option<Duration>,
    deeds_left: usize,
    pub(super) log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, log: bool) -> Self {
        let (plan, dice) = Plan::draw(seed);
        let mut world = Self {
            plan,
            dice,
            now: Duration::ZERO,
            machine: None,
            process: 0,
            stopping: false,
            disk: Disk::default(),
            receiver: Store::default(),
            agenda: BTreeMap::new(),
            jobs: BTreeMap::new(),
            serial: 0,
            scratch: BTreeMap::new(),
            can_watch: true,
            root_watched: true,
            watched: BTreeMap::new(),
            watch_thread: Default::default(),
            sealed_at: BTreeMap::new(),
            rejected: BTreeSet::new(),
            seen: Watched::default(),
            stream: Stream::default(),
            settled_at: None,
            deeds_left: 0,
            log: log.then(Vec::new),
        };
        world.note(|world| format!("{:?}", world.plan));
        for (id, poison) in world.plan.poison.clone() {
            if poison == Poison::Taken {
                let content = world.fresh();
                world.receiver.take(&id, content);
            }
        }
        world.draw_scripts();
        world.deeds_left = world.agenda.len();
        world.draw_troubles();
        let start = world.dice.millis(0, 500);
        world.after(start, Act::Start);
        world
    }

    fn draw_troubles(&mut self) {
        let end = u64::try_from(self.plan.calm_at.as_millis()).unwrap();
        for _ in 0..self.plan.crashes {
            let at = self.dice.millis(0, end);
            let act = if self.dice.chance(70) {
                Act::Crash
            } else {
                Act::Stop
            };
            self.after(at, act);
        }
        for _ in 0..self.plan.reloads {
            let at = self.dice.millis(0, end);
            self.after(at, Act::Reload);
        }
        for _ in 0..self.plan.watch_troubles {
            let at = self.dice.millis(0, end);
            if self.dice.chance(40) {
                self.after(at, Act::LoseWatches);
            } else {
                let until = (at + self.dice.millis(0, 100_000)).min(self.plan.calm_at);
                self.after(at, Act::Watches(false));
                self.after(until, Act::Watches(true));
            }
        }
        for (id, poison) in self.plan.poison.clone() {
            if poison == Poison::Taken && self.dice.chance(50) {
                let at = self.dice.millis(0, end);
                self.after(at, Act::Forget(id));
            }
        }
        if self.plan.bad_disk > 0 {
            for id in self.plan.names.clone() {
                if self.dice.chance(20) {
                    let at = self.dice.millis(0, end);
                    self.after(at, Act::Rot(id));
                }
            }
        }
    }

    /// A number that nothing else has: an inode, a content.
    pub(super) fn fresh(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn after(&mut self, at: Duration, act: Act) {
        let serial = self.fresh();
        self.agenda.insert((at.max(self.now), serial), act);
    }

    /// Faults are over.
    pub(super) fn calm(&self) -> bool {
        self.plan.profile == Profile::Calm || self.now >= self.plan.calm_at
    }

    pub(super) fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.log.is_some() {
            let line = format!("{:>10.3} {}", self.now.as_secs_f64(), text(self));
            self.log.get_or_insert_default().push(line);
        }
    }

    /// Lives through all of it. Panics where a promise is broken.
    pub(super) fn run(&mut self) {
        while !self.over() {
            let deadline = self.machine.as_ref().and_then(Machine::next_deadline);
            let act = self.agenda.first_key_value().map(|((at, _), _)| *at);
            match (deadline, act) {
                (Some(at), _) if act.is_none_or(|act| at <= act) => {
                    self.now = self.now.max(at);
                    self.tell(Event::Deadline);
                }
                (_, Some(_)) => {
                    let Some(((at, _), act)) = self.agenda.pop_first() else {
                        return;
                    };
                    self.now = at;
                    self.note(|_| format!("        {act:?}"));
                    self.act(act);
                }
                (_, None) => panic!("nothing will happen any more, and not everything is done"),
            }
            assert!(
                self.now < self.plan.calm_at + LIMIT,
                "not finished in time: {:?}, archives {:?}, scratch {:?}",
                self.left_behind(),
                self.disk.outbox.keys(),
                self.scratch.keys()
            );
            self.end_of_process();
        }
        self.everything_is_in_its_place();
    }

    /// The machine hears of something, and what it wants done is begun.
    pub(super) fn tell(&mut self, event: Event) {
        self.hears(&event);
        let Some(mut machine) = self.machine.take() else {
            return;
        };
        self.note(|_| format!("▶ {event:?}"));
        machine.handle(event, self.now);
        machine.assert_books();
        self.machine = Some(machine);
        while let Some(effect) = self.machine.as_mut().and_then(Machine::next_effect) {
            self.note(|_| format!("    ◀ {effect:?}"));
            self.stream.add(self.now, 0, &effect);
            self.begin(effect);
        }
        self.deadline_lies_ahead();
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Record(id, deed) => {
                self.deeds_left -= 1;
                self.record(&id, deed);
            }
            Act::Apply(job) => self.apply(job),
            Act::Report(job) => self.report(job),
            Act::Unwatch(process, id) if process == self.process => {
                self.watched.remove(&id);
            }
            Act::Hint(process, id) if process == self.process => self.tell(Event::Hinted(id)),
            Act::Overflow(process) if process == self.process => self.tell(Event::HintsLost),
            Act::Say(process, event) if process == self.process => self.tell(*event),
            Act::GraceOver(process) if process == self.process => self.kill(),
            Act::Unwatch(..)
            | Act::Hint(..)
            | Act::Overflow(_)
            | Act::Say(..)
            | Act::GraceOver(_) => {}
            Act::Watches(can) => {
                self.can_watch = can;
                self.root_watched = can || (self.root_watched && self.dice.chance(50));
                self.say_from_watch_thread(Event::Watching(can));
            }
            Act::LoseWatches => {
                self.watched.clear();
                self.say_from_watch_thread(Event::WatchesLost);
            }
            Act::Reload => {
                let (settings, elsewhere) = (self.plan.settings.clone(), self.dice.chance(50));
                if elsewhere {
                    self.seen.another_receiver();
                }
                self.tell(Event::Configured {
                    settings,
                    elsewhere,
                });
            }
            Act::Forget(id) => {
                if let Some(archive) = self.disk.outbox.get_mut(&id)
                    && matches!(archive.sidecar, Some(Some(_)))
                {
                    archive.sidecar = None;
                    self.stirred(&id, None);
                }
            }
            Act::Rot(id) => {
                if let Some(archive) = self.disk.outbox.get_mut(&id) {
                    archive.damaged = true;
                }
            }
            Act::Straggler(id, content) => {
                self.receiver.take(&id, content);
            }
            Act::Crash => self.kill(),
            Act::Stop => {
                if self.machine.is_some() {
                    self.stopping = true;
                    self.tell(Event::Stop);
                    self.after(self.now + GRACE, Act::GraceOver(self.process));
                }
            }
            Act::Start => self.start(),
        }
    }

    fn say_from_watch_thread(&mut self, event: Event) {
        let at = self.watch_thread.1.max(self.now + self.dice.millis(0, 5));
        self.watch_thread.1 = at;
        self.after(at, Act::Say(self.process, Box::new(event)));
    }

    fn start(&mut self) {
        if self.machine.is_some() {
            return;
        }
        let mut settings = self.plan.settings.clone();
        settings.seed = self.dice.draw();
        self.machine = Some(Machine::new(settings, self.now));
        self.watch_thread = (self.now, self.now);
        let calm = self.calm();
        self.seen.new_process(calm);
        if !self.can_watch {
            self.say_from_watch_thread(Event::Watching(false));
        }
    }

    /// The machine is gone, whatever it was at; what was under way is done in part.
    fn kill(&mut self) {
        if self.machine.take().is_none() {
            return;
        }
        self.break_off_jobs();
        self.process += 1;
        self.stopping = false;
        self.scratch.clear();
        self.watched.clear();
        let pause = self.dice.millis(100, 20_000);
        self.after(self.now + pause, Act::Start);
    }

    /// A pass that is through, or a daemon that was told to stop and has nothing under way any
    /// more.
    fn end_of_process(&mut self) {
        let Some(machine) = &self.machine else { return };
        if !machine.idle() {
            if self.plan.settings.once && !self.stopping {
                let underway = !self.jobs.is_empty() || machine.next_deadline().is_some();
                assert!(underway, "a pass waits for nothing");
            }
            return;
        }
        if self.plan.settings.once && !self.stopping {
            self.one_pass_adds_up(&machine.tally());
            self.settled_at = self
                .settled_at
                .or(self.seen.began_in_calm.then_some(self.now));
            self.kill();
        } else if self.stopping {
            self.kill();
        }
    }

    /// Whether the story is told: nothing is left to be done, and for a while nothing was done.
    fn over(&mut self) -> bool {
        if self.plan.profile == Profile::Once {
            return self.settled_at.is_some();
        }
        if self.deeds_left > 0 || self.now < self.plan.calm_at || self.machine.is_none() {
            return false;
        }
        if !self.left_behind().is_empty() {
            return false;
        }
        let settled_at = *self.settled_at.get_or_insert(self.now);
        let idle = self.machine.as_ref().is_some_and(Machine::idle);
        idle && self.now >= settled_at + LINGER && self.nothing_is_left_over()
    }

    /// What two runs of one seed must agree in.
    pub(super) fn fingerprint(&self) -> (u64, Duration, Option<Tally>, usize) {
        (
            self.seen.history,
            self.now,
            self.machine.as_ref().map(Machine::tally),
            self.disk.shipped.len(),
        )
    }
}

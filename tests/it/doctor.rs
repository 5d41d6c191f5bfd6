//! `sealift doctor`: on a sound host every row is green; each test breaks one thing, sees its row
//! turn and no other, types what the row says, and sees it green again.

mod aside;
mod daemon;
mod documents;
mod episodes;
mod folders;
mod journal;
mod moves;
mod receiver;
mod service;
mod settings;
mod ten;
mod typed;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    disks::clock::libfaketime,
    support::{
        Mounted, Process, Sandbox, copy_program, eventually, eventually_within, write_script,
    },
};

/// A host: a sandbox, and before everything else in its PATH a systemctl and a journalctl that say
/// what the test has written down.
pub(crate) struct Host {
    pub(crate) sandbox: Sandbox,
    bin: PathBuf,
    daemon: Option<Process>,
    /// The file says where the receiver is, and not the command line.
    by_file: bool,
}

/// A daemon that a test's `systemctl` starts, by the file with its number.
pub(crate) struct Restarted(PathBuf);

impl Drop for Restarted {
    fn drop(&mut self) {
        let pid = fs::read_to_string(&self.0).unwrap_or_default();
        let _ = Command::new("kill").args(["-KILL", pid.trim()]).output();
    }
}

/// What the doctor said.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) document: Value,
}

const SYSTEMCTL: &str = r#"#!/bin/bash
unit=$(dirname "$0")/../unit
say() { sed -i "s/^$1=.*/$1=$2/" "$unit"; }
echo "$*" >>"$unit.calls"
case $1 in
show) cat "$unit" ;;
enable) say UnitFileState enabled; [ "$2" != --now ] || say ActiveState active ;;
start | restart)
    say ActiveState active
    [ ! -e "$unit.$2" ] || rm "$unit.$2"
    [ ! -e "$unit.restart" ] || bash "$unit.restart" >>"$unit.log" 2>&1 </dev/null
    ;;
unmask) say LoadState loaded ;;
reset-failed) say NRestarts 0 ;;
reload) kill -HUP "$(cat "$unit.pid")" ;;
esac
"#;

const JOURNALCTL: &str = r#"#!/bin/bash
here=$(dirname "$0")/..
echo "$*" >>"$here/journal.calls"
[ ! -e "$here/journal.hangs" ] || exec tail -f /dev/null
[ ! -e "$here/journal.error" ] || { cat "$here/journal.error" >&2; exit 1; }
# --reverse: the newest first.
tac "$here/journal"
"#;

impl Host {
    /// Our own receiver, a daemon that ships to it, a unit that is active, a clean journal: nothing
    /// is wrong.
    pub(crate) fn sound() -> Self {
        let mut host = Self::without_a_daemon(Sandbox::with_receiver());
        host.start_daemon();
        host
    }

    /// The same, and no daemon runs.
    pub(crate) fn without_a_daemon(sandbox: Sandbox) -> Self {
        let bin = sandbox.path("bin");
        fs::create_dir(&bin).unwrap();
        let host = Self {
            sandbox,
            bin,
            daemon: None,
            by_file: false,
        };
        host.script("systemctl", SYSTEMCTL);
        host.script("journalctl", JOURNALCTL);
        host.script("sudo", "#!/bin/bash\nexec \"$@\"\n");
        host.script("sudoedit", "#!/bin/bash\nexec \"$EDITOR\" \"$@\"\n");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sealift"), host.bin.join("sealift"))
            .unwrap();
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        host.unit(&format!(
            "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nResult=success\nExecMainStatus=0\n\
             WatchdogUSec=3min\nNRestarts=0\nMainPID=1\nUser={}",
            String::from_utf8_lossy(&user)
        ));
        host.journal(&["{\"MESSAGE\":\"sealift ships\"}"]);
        host.configure("");
        host
    }

    /// As on an installed host: the command line says nothing but where the file is, which names
    /// this receiver.
    pub(crate) fn by_file(sandbox: Sandbox) -> Self {
        let mut host = Self::without_a_daemon(sandbox);
        host.by_file = true;
        host.configure(&host.naming(host.sandbox.url()));
        host
    }

    /// A configuration that names this receiver.
    pub(crate) fn naming(&self, url: &str) -> String {
        format!(
            "[shipper]\ndata_dir = '{}'\n[receiver]\nurl = '{url}'\n",
            self.sandbox.data().display()
        )
    }

    pub(crate) fn start_daemon(&mut self) {
        self.start_daemon_as(self.command("ship"));
    }

    /// By another command than the plain one.
    pub(crate) fn start_daemon_as(&mut self, command: Command) {
        let daemon = self.sandbox.start(command);
        daemon.wait_log("sealift");
        fs::write(self.sandbox.path("unit.pid"), daemon.pid().to_string()).unwrap();
        let socket = self.sandbox.layout.private.join("control.sock");
        eventually("the daemon can be asked", || socket.exists());
        self.daemon = Some(daemon);
        // From then on it takes signals, too.
        eventually("the daemon answers", || {
            self.doctor().row("daemon")["status"] == "green"
        });
    }

    pub(crate) fn stop_daemon(&mut self) {
        assert!(self.daemon.take().unwrap().terminate().success());
    }

    pub(crate) fn daemon(&self) -> &Process {
        self.daemon.as_ref().unwrap()
    }

    /// From here on, what `systemctl restart` starts ships. It ends with what this returns.
    pub(crate) fn restarts_for_real(&self) -> Restarted {
        let ship = self.command("ship");
        let quoted: Vec<_> = ship
            .get_args()
            .map(|arg| format!("'{}'", arg.to_str().unwrap()))
            .collect();
        let pid = self.sandbox.path("unit.pid");
        // Killed, as by a service manager that has waited for long enough. With its process its
        // socket goes.
        let script = format!(
            "old=$(cat '{pid}'); kill -KILL $old\nwhile grep -qs '^State:.[^Z]' /proc/$old/status; do :; done\n\
             until flock -n '{}' true; do :; done\nrm -f '{}'\nsetsid sealift {} &\necho $! >'{pid}'\n",
            // Its last thread lets go of it after its first is a zombie.
            self.sandbox.layout.private.join("lock").display(),
            self.sandbox.layout.private.join("control.sock").display(),
            quoted.join(" "),
            pid = pid.display(),
        );
        fs::write(self.sandbox.path("unit.restart"), script).unwrap();
        Restarted(pid)
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        let path = self.bin.join(name);
        write_script(&path, text);
    }

    /// What `systemctl show` says.
    pub(crate) fn unit(&self, text: &str) {
        fs::write(self.sandbox.path("unit"), text).unwrap();
    }

    /// One property of it.
    pub(crate) fn unit_is(&self, property: &str, value: &str) {
        let text = fs::read_to_string(self.sandbox.path("unit")).unwrap();
        let lines = text.lines().map(|line| match line.split_once('=') {
            Some((name, _)) if name == property => format!("{property}={value}\n"),
            _ => format!("{line}\n"),
        });
        self.unit(&lines.collect::<String>());
    }

    /// What is in the journal, the oldest first.
    pub(crate) fn journal(&self, lines: &[&str]) {
        fs::write(
            self.sandbox.path("journal"),
            lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )
        .unwrap();
    }

    /// The configuration file.
    pub(crate) fn configure(&self, toml: &str) {
        fs::write(self.config_file(), toml).unwrap();
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.sandbox.path("sealift.toml")
    }

    /// A folder of temporary folders is its owner's alone: from here on everybody finds the way to
    /// what is in it.
    pub(crate) fn can_be_found_by_everybody(&self) {
        for (path, mode) in [(self.sandbox.path(""), 0o755), (self.config_file(), 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// What an editor is going to make of the file that it is given.
    pub(crate) fn editor_writes(&self, text: &str) {
        let written = self.sandbox.path("edited");
        fs::write(&written, text).unwrap();
        self.script(
            "editor",
            &format!("#!/bin/bash\ncat '{}' >\"$1\"\n", written.display()),
        );
    }

    /// `sealift COMMAND`, about this host.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut command = if self.by_file {
            let mut sealift = crate::support::sealift();
            sealift.arg(command);
            sealift
        } else {
            self.sandbox.command(command)
        };
        command.arg("--config").arg(self.config_file());
        self.at_home(&mut command);
        command
    }

    fn at_home(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("EDITOR", self.bin.join("editor"));
    }

    pub(crate) fn doctor(&self) -> Told {
        told(&self.command("doctor").arg("--json").output().unwrap())
    }

    /// The doctor's clock is ahead. `None` on a laptop that has no libfaketime: faketime(1) itself
    /// makes a semaphore, and fails where one of a killed process had its number before.
    pub(crate) fn doctor_later(&self, later: &str) -> Option<Told> {
        let library = libfaketime()?;
        let mut command = self.command("doctor");
        command
            .arg("--json")
            .env("LD_PRELOAD", library)
            .env("FAKETIME", later);
        Some(told(&command.output().unwrap()))
    }

    /// What it says where it has had the time that it gives itself: on a loaded machine its look at
    /// episodes may be cut off, and a daemon that runs may answer too late.
    #[track_caller]
    pub(crate) fn doctor_in_time(&self) -> Told {
        let mut told = self.doctor();
        eventually("all is looked at", || {
            let in_time = told.rows().iter().all(|row| {
                let is_late = row["summary"]
                    .as_str()
                    .is_some_and(|said| said.contains("does not answer: it hangs"));
                row["details"]["cut_off_after"].is_null() && !(is_late && self.daemon_runs())
            });
            if !in_time {
                told = self.doctor();
            }
            in_time
        });
        told
    }

    /// It is there, and was not stopped (proc_pid_stat(5)).
    fn daemon_runs(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
            !stat.rsplit(')').next().unwrap().starts_with(" T")
        })
    }

    /// The rows that are not green.
    #[track_caller]
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.doctor_in_time().wrong()
    }

    /// Types a command as it is shown.
    pub(crate) fn type_in(&self, fix: &str) -> Output {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(fix).stdin(std::process::Stdio::null());
        self.at_home(&mut shell);
        shell.output().unwrap()
    }

    /// Nothing is wrong; something is broken, and exactly this row turns, to this colour; its fix
    /// is typed, and it is green again.
    #[track_caller]
    pub(crate) fn breaks_and_is_mended(&self, row: &str, break_it: impl FnOnce(&Self)) -> Value {
        let before = self.wrong();
        break_it(self);
        let broken = self.turned(row, &before);
        let mut typed = self.type_fix(&broken);
        let mut now = Vec::new();
        let deadline = clock() + crate::support::DEADLINE;
        while clock() < deadline {
            let told = self.doctor_in_time();
            now = told.wrong();
            if now == before {
                return broken;
            }
            // One after another: the doctor names the next.
            let next = told.rows().iter().find(|told| told["id"] == *row);
            if let Some(next) =
                next.filter(|next| next["fix"].is_string() && next["fix"] != typed.0)
            {
                typed = self.type_fix(next);
            }
        }
        panic!(
            "{row} is still wrong after {}\nnow: {now:?}\nstderr: {}",
            typed.0,
            String::from_utf8_lossy(&typed.1.stderr)
        );
    }

    /// Types the fix of a row, and then what its sentence says to type then.
    #[track_caller]
    pub(crate) fn type_fix(&self, row: &Value) -> (String, Output) {
        let fix = row["fix"].as_str().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", fix]).stdin(std::process::Stdio::null());
        self.at_home(&mut shell);
        let typed = shell.output().unwrap();
        let summary = row["summary"].as_str().unwrap();
        if let Some((_, then)) = summary.rsplit_once("Then: ") {
            let then = then.split("  ").next().unwrap();
            // Where nothing runs, there is nothing to tell of it.
            let _ = self.type_in(then);
        }
        (fix.to_owned(), typed)
    }

    /// Exactly this row is wrong that was not before: it.
    #[track_caller]
    pub(crate) fn turned(&self, row: &str, before: &[String]) -> Value {
        let mut told = self.doctor_in_time();
        let new = |told: &Told| {
            let wrong = told.wrong().into_iter();
            wrong.filter(|id| !before.contains(id)).collect::<Vec<_>>()
        };
        // What is tried again is not in its trouble while the attempt lasts.
        eventually(&format!("{row} turns"), || {
            if new(&told).is_empty() {
                told = self.doctor_in_time();
            }
            !new(&told).is_empty()
        });
        assert_eq!(new(&told), [row], "{:#}", told.document);
        let row = told.row(row);
        assert!(
            row["fix"].as_str().is_some_and(|fix| !fix.contains('\n')),
            "{row:#}"
        );
        row
    }
}

pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI is root");
        println!("skipped: this takes root");
    }
    root
}

pub(crate) fn told(output: &Output) -> Told {
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    documents::validates(&document);
    Told {
        code: output.status.code().unwrap(),
        document,
    }
}

impl Told {
    pub(crate) fn rows(&self) -> &Vec<Value> {
        self.document["checks"].as_array().unwrap()
    }

    #[track_caller]
    pub(crate) fn row(&self, id: &str) -> Value {
        self.rows()
            .iter()
            .find(|row| row["id"] == id)
            .unwrap_or_else(|| panic!("no {id}: {:#}", self.document))
            .clone()
    }

    /// Ids of the rows that are not green.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let wrong = self.rows().iter().filter(|row| row["status"] != "green");
        wrong
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The first red row, as a person sees it.
    pub(crate) fn first_red(&self) -> Option<&Value> {
        self.rows().iter().find(|row| row["status"] == "red")
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline needs a clock")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

fn listing(sandbox: &Sandbox) -> BTreeMap<PathBuf, u64> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut found, mut waiting) = (BTreeMap::new(), vec![sandbox.data()]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                waiting.push(path.clone());
            }
            found.insert(path, metadata.ino());
        }
    }
    found
}

#[test]
fn on_a_sound_host_every_row_is_green_and_nothing_is_changed() {
    let host = Host::sound();
    host.sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    host.sandbox.wait_shipped("run-1");
    eventually("the outbox is cleared", || host.sandbox.outbox().is_empty());
    let before = listing(&host.sandbox);
    let told = host.doctor();
    assert_eq!(told.wrong(), Vec::<String>::new(), "{:#}", told.document);
    assert_eq!(
        (told.code, &told.document["status"]),
        (0, &Value::from("green"))
    );
    assert!(told.rows().len() > 25, "{:#}", told.document);
    assert_eq!(listing(&host.sandbox), before);
}

/// How many times longer than on a machine of its own anything takes now: the time that this thread
/// has to wait for some of a processor's.
fn slowness() -> f64 {
    let cpu = || {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(spent).unwrap()
    };
    let (begun, spent) = (clock(), cpu());
    while cpu() < spent + Duration::from_millis(50) {
        std::hint::spin_loop();
    }
    (begun.elapsed().as_secs_f64() / 0.05).max(1.0)
}

/// A second of a machine of its own: this one may have other things to do all the time.
fn takes_less_than_a_second(host: &Host) {
    eventually("it takes less than a second", || {
        let before = slowness();
        let begun = clock();
        host.doctor();
        let took = begun.elapsed();
        took < Duration::from_secs(1).mul_f64(before.max(slowness()))
    });
}

/// What it says within five seconds. A busy machine may be late once; what waits for something that
/// hangs is late each time.
#[track_caller]
fn told_within_five_seconds(host: &Host) -> Told {
    let mut told = None;
    eventually("it is said within five seconds", || {
        let begun = clock();
        told = Some(host.doctor());
        begun.elapsed() < Duration::from_secs(5)
    });
    told.unwrap()
}

#[test]
fn it_takes_less_than_a_second_where_nothing_hangs() {
    takes_less_than_a_second(&Host::sound());
}

#[test]
fn it_takes_less_than_a_second_with_tens_of_thousands_of_episodes_and_no_row_is_missing() {
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    let rows = host.doctor().rows().len();
    // A disk makes and removes so many folders in a minute.
    let _in_memory = Mounted::over(&host.sandbox.data(), "2g");
    let many = format!(
        "cd '{}' && mkdir -p episodes outbox shipped quarantine && mkdir episodes/run-{{1..20000}} shipped/old-{{1..20000}} && touch episodes/run-{{1..20000}}/done.marker",
        host.sandbox.data().display()
    );
    assert!(host.type_in(&many).status.success());
    takes_less_than_a_second(&host);
    // It looks for so long and no longer: all of them are seen on a machine that has the time, and
    // on one that has not it is said how many were.
    eventually_within(Duration::from_secs(300), "all of them are seen", || {
        let told = host.doctor();
        assert!(told.rows().len() >= rows, "{:#}", told.document);
        let details = &told.row("waiting")["details"];
        let has_no_time = || {
            slowness() > 3.0
                && details["cut_off_after"]
                    .as_u64()
                    .is_some_and(|n| n < 20_000)
        };
        details["count"] == 20_000 || has_no_time()
    });
}

#[test]
fn the_exit_code_is_that_of_the_worst_row() {
    let mut host = Host::sound();
    assert_eq!(host.doctor().code, 0);
    host.sandbox.record("-odd", &[]);
    assert_eq!(host.doctor().code, 1);
    host.stop_daemon();
    assert_eq!(host.doctor().code, 2);
}

#[test]
fn a_person_reads_a_row_a_check_with_the_command_below_and_colour_only_on_a_terminal() {
    let host = Host::sound();
    host.sandbox.seal("-odd\u{1b}[2J", &[]);
    let output = host.command("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with("red    names "))
        .unwrap();
    assert!(
        lines[at + 1]
            .trim_start()
            .starts_with("$ sealift rename --from episodes '%2Dodd%1B[2J' odd__2J-1 "),
        "{text}"
    );
    assert!(lines.last().unwrap().starts_with("red: "), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");

    // On a terminal, of script(1)'s making.
    let doctor = host.command("doctor");
    let typed: Vec<_> = doctor
        .get_args()
        .map(|arg| format!("'{}'", arg.to_str().unwrap()))
        .collect();
    let typed = format!("sealift {}", typed.join(" "));
    let on_a_terminal = |no_color: &str| {
        let mut script = Command::new("script");
        script
            .args(["-qec", &typed, "/dev/null"])
            .env("NO_COLOR", no_color)
            .stdin(std::process::Stdio::null());
        host.at_home(&mut script);
        String::from_utf8(
            script
                .output()
                .expect("script(1), of bsdutils, is there")
                .stdout,
        )
        .unwrap()
    };
    assert!(
        on_a_terminal("").contains("\u{1b}[31mred   \u{1b}[0m names"),
        "{}",
        on_a_terminal("")
    );
    assert!(!on_a_terminal("1").contains('\u{1b}'));
}

#[test]
fn who_may_see_nothing_is_told_so_and_no_alarm_is_raised() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI is root");
        println!("skipped: only root becomes somebody else");
        return;
    }
    let host = Host::sound();
    let plain = host.command("doctor");
    // A folder of temporary folders is its owner's alone, and the program stands in one as well,
    // perhaps.
    let sealift = std::env::temp_dir().join(format!("sealift-doctor-{}", std::process::id()));
    copy_program(env!("CARGO_BIN_EXE_sealift"), &sealift);
    fs::set_permissions(host.config_file(), fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&sealift)
        .args(plain.get_args());
    command
        .arg("--json")
        .env_remove("SEALIFT_CONFIG")
        .current_dir("/");
    let output = command.output().unwrap();
    let told = told(&output);
    assert_eq!(told.first_red(), None, "{:#}", told.document);
    assert_eq!(told.code, 1);
    let configuration = told.row("configuration");
    assert_eq!(configuration["status"], "yellow");
    assert!(
        configuration["fix"].as_str().unwrap().starts_with("sudo "),
        "{configuration:#}"
    );

    // The configuration may be read, and the data may not be looked at.
    fs::set_permissions(host.config_file(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(host.sandbox.data(), fs::Permissions::from_mode(0o700)).unwrap();
    let told = self::told(&command.output().unwrap());
    forget(&sealift);
    assert_eq!(told.first_red(), None, "{:#}", told.document);
    for row in ["folders", "daemon"] {
        assert_eq!(told.row(row)["status"], "yellow", "{:#}", told.document);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test removes what it made")]
pub(crate) fn forget(path: &std::path::Path) {
    let _ = fs::remove_file(path);
}

//! A program that is asked something: no shell, a deadline, a bounded answer.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

/// An answer to such a question is some hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What it says on stdout; `None` where it is not there, fails, or does not end in time. It is
/// killed then.
pub(super) async fn stdout_of(program: &str, args: &[&str], within: Duration) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_PAGER", "");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().ok()?;
    let mut answer = Vec::new();
    let mut stdout = child.stdout.take()?.take(MAX_BYTES);
    let ended = timeout(within, async {
        stdout.read_to_end(&mut answer).await.ok()?;
        child
            .wait()
            .await
            .ok()
            .filter(std::process::ExitStatus::success)
    });
    ended.await.ok()??;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// How it ends, whatever it says; `None` where it is not there, is killed, or does not end in time.
pub(super) async fn code_of(program: &str, args: &[&str], within: Duration) -> Option<i32> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let ended = timeout(within, command.status()).await;
    ended.ok()?.ok()?.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_hangs_fails_or_is_not_there_says_nothing() {
        let soon = Duration::from_millis(100);
        let long = Duration::from_secs(20);
        assert_eq!(
            stdout_of("echo", &["a b", "$HOME"], long).await.as_deref(),
            Some("a b $HOME\n")
        );
        assert_eq!(stdout_of("tail", &["-f", "/dev/null"], soon).await, None);
        assert_eq!(stdout_of("false", &[], long).await, None);
        assert_eq!(stdout_of("no-such-program-here", &[], long).await, None);
    }
}

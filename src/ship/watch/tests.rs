use super::*;

#[test]
fn only_episodes_and_their_markers_are_hints() {
    let root = Path::new("/d/episodes");
    let id = |path: &str| episode_of(root, Path::new(path)).map(|id| id.as_str().to_owned());
    assert_eq!(id("/d/episodes/run-1"), Some("run-1".into()));
    assert_eq!(id("/d/episodes/run-1/done.marker"), Some("run-1".into()));
    assert_eq!(id("/d/episodes/.sealift-look-run-1"), Some("run-1".into()));
    for path in [
        "/d/episodes",
        "/d/other/run-1",
        "/d/episodes/.building",
        "/d/episodes/.sealift-look-",
        "/d/episodes/.sealift-look-.x",
        "/d/episodes/run-1/data.bin",
        "/d/episodes/run-1/deep/done.marker",
    ] {
        assert_eq!(id(path), None, "{path}");
    }
}

#[test]
fn what_is_found_open_is_watched_and_what_is_sealed_already_never_is() {
    let folder = tempfile::tempdir().unwrap();
    let (hints, _hints) = tokio::sync::mpsc::channel(100);
    let (events, _heard) = tokio::sync::mpsc::unbounded_channel();
    let mut watching = Watching::new(folder.path().to_owned(), InotifyUse::Always, hints, events);
    watching.refresh();
    for (name, sealed) in [("open", false), ("sealed", true)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        if sealed {
            std::fs::write(folder.path().join(name).join(MARKER), b"").unwrap();
        }
        watching.obey(WatchCommand::Look(EpisodeId::parse(name).unwrap()));
    }
    assert_eq!(
        watching.watched,
        HashSet::from([EpisodeId::parse("open").unwrap()])
    );
}

#[test]
fn one_folder_that_cannot_be_watched_blinds_nobody_and_what_is_short_for_all_does() {
    let folder = tempfile::tempdir().unwrap();
    let (hints, _hints) = tokio::sync::mpsc::channel(100);
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut watching = Watching::new(folder.path().to_owned(), InotifyUse::Always, hints, events);
    watching.refresh();
    let id = EpisodeId::parse("secret").unwrap();
    let refused = |errno: Errno| notify::Error::io(errno.into());
    for own in [Errno::ACCESS, Errno::NOTDIR, Errno::LOOP, Errno::IO] {
        watching.cannot_watch(&id, &refused(own));
        watching.refresh();
    }
    assert!(!watching.blind && watching.life.trouble.lock().is_none());
    assert!(heard.try_recv().is_err(), "no other needs to hear of it");
    assert_eq!(
        watching.unwatchable,
        HashSet::from([id.clone()]),
        "told once"
    );
    watching.unwatch(&id);
    assert!(
        watching.unwatchable.is_empty(),
        "remembered for as long as it is open"
    );
    for everybodys in [Errno::NOSPC, Errno::MFILE, Errno::NOMEM] {
        assert!(is_short(&refused(everybodys)), "{everybodys}");
    }
    assert!(is_short(&notify::Error::new(ErrorKind::MaxFilesWatch)));
    watching.cannot_watch(&id, &refused(Errno::NOSPC));
    assert!(matches!(heard.try_recv(), Ok(Event::Watching(false))));
}

#[test]
fn a_mount_over_the_root_whose_events_cannot_be_trusted_is_looked_at_often_until_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("episodes");
    std::fs::create_dir(&root).unwrap();
    let (hints, _hints) = tokio::sync::mpsc::channel(100);
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut watching = Watching::new(root.clone(), InotifyUse::WhereTrusted, hints, events);
    // As statfs(2) would say of the mount that comes.
    watching.untrusted_on = |root| root.join("mounted").exists().then_some("NFS");
    watching.refresh();
    assert!(watching.watcher.is_some() && heard.try_recv().is_err());

    replace(&root, &["mounted"]);
    for _ in 0..3 {
        watching.refresh();
    }
    assert!(watching.watcher.is_none());
    let trouble = watching.life.trouble.lock().clone().unwrap();
    assert_eq!(
        (trouble.why.as_str(), trouble.fix),
        ("events cannot be trusted on NFS", None)
    );
    assert!(matches!(heard.try_recv(), Ok(Event::Watching(false))));
    assert!(matches!(heard.try_recv(), Ok(Event::WatchesLost)));
    assert!(heard.try_recv().is_err(), "told once");

    replace(&root, &[]);
    for _ in 0..3 {
        watching.refresh();
    }
    assert!(watching.watcher.is_some() && !watching.blind);
    assert!(
        std::iter::from_fn(|| heard.try_recv().ok())
            .any(|event| matches!(event, Event::Watching(true)))
    );
}

#[test]
fn a_root_that_is_removed_is_told_at_once_and_watched_by_the_next_look_after_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("episodes");
    std::fs::create_dir(&root).unwrap();
    let (hints, mut hinted) = tokio::sync::mpsc::channel(100);
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut watching = Watching::new(root.clone(), InotifyUse::Always, hints, events);
    watching.refresh();
    std::fs::remove_dir(&root).unwrap();
    // By the kernel, before any tick.
    assert!(matches!(heard.blocking_recv(), Some(Event::WatchesLost)));
    watching.refresh();
    let trouble = watching.life.trouble.lock().clone().unwrap();
    assert!(
        trouble.why.ends_with("/episodes is not there"),
        "{trouble:?}"
    );
    let mut told = || std::iter::from_fn(|| heard.try_recv().ok()).collect::<Vec<_>>();
    assert!(
        told()
            .iter()
            .any(|event| matches!(event, Event::Watching(false)))
    );

    std::fs::create_dir(&root).unwrap();
    watching.refresh();
    assert!(watching.life.trouble.lock().is_none());
    let said = told();
    assert!(
        matches!(&said[..], [Event::Watching(true), Event::WatchesLost]),
        "{said:?}"
    );
    std::fs::create_dir(root.join("a")).unwrap();
    assert_eq!(hinted.blocking_recv(), EpisodeId::parse("a").ok());
}

/// Another folder under the same name. The old one stays: its inode number is not used again.
#[expect(clippy::disallowed_methods, reason = "an operator moves as they like")]
fn replace(root: &Path, inside: &[&str]) {
    let old = (0..)
        .map(|n| root.with_extension(n.to_string()))
        .find(|path| !path.exists())
        .unwrap();
    std::fs::rename(root, old).unwrap();
    std::fs::create_dir(root).unwrap();
    for name in inside {
        std::fs::create_dir(root.join(name)).unwrap();
    }
}

#[test]
fn the_thread_gives_a_sign_of_life_when_it_is_asked_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let (hints, _hints) = tokio::sync::mpsc::channel(1);
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let watch = Watch::start(folder.path().to_owned(), InotifyUse::Never, hints, events).unwrap();
    for _ in 0..3 {
        watch.ping();
    }
    // What it is asked for after the pings it does after them.
    watch.look(EpisodeId::parse("a").unwrap());
    assert!(heard.blocking_recv().is_some());
    watch.ping();
    watch.look(EpisodeId::parse("b").unwrap());
    assert!(heard.blocking_recv().is_some());
    assert!(watch.obeyed() >= 3, "{}", watch.obeyed());
}
